"""Networks in the papers' small-image forms."""

from __future__ import annotations

import math

import pytest
import timm
import torch
from torch import nn

from tests.support.networks import build, parameters
from wash_bench.errors import UsageError
from wash_bench.models.stems import resolve_stem


@pytest.mark.parametrize(
    ("name", "classes", "count", "tensors"),
    [
        ("resnet18", 10, 11_173_962, 62),
        ("resnet18", 100, 11_220_132, 62),
        ("vgg16", 10, 14_728_266, 54),
        ("vgg16_bn", 100, 14_774_436, 54),
        ("vgg11_bn", 10, 9_231_114, 34),
    ],
)
def test_parameter_counts_of_the_papers(name, classes, count, tensors):
    model = build(name, classes=classes)
    assert parameters(model) == count
    assert len(list(model.parameters())) == tensors
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert {parameter.device.type for parameter in model.parameters()} == {"cpu"}
    assert model.training


class PlainBlock(nn.Module):
    """PAPA's basic block, written from the description of the network."""

    def __init__(self, inner: int, out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inner, out, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(out)
        self.conv2 = nn.Conv2d(out, out, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(out)
        self.shortcut = nn.Sequential()
        if stride != 1 or inner != out:
            self.shortcut = nn.Sequential(
                nn.Conv2d(inner, out, 1, stride, bias=False), nn.BatchNorm2d(out)
            )

    def forward(self, x):
        y = self.bn2(self.conv2(self.bn1(self.conv1(x)).relu()))
        return (y + self.shortcut(x)).relu()


class PlainResNet18(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        widths = [(64, 64, 1), (64, 128, 2), (128, 256, 2), (256, 512, 2)]
        for index, (inner, out, stride) in enumerate(widths, 1):
            blocks = nn.Sequential(PlainBlock(inner, out, stride), PlainBlock(out, out, 1))
            setattr(self, f"layer{index}", blocks)
        self.linear = nn.Linear(512, 10)

    def forward(self, x):
        x = self.bn1(self.conv1(x)).relu()
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.linear(x.mean(dim=(2, 3)))


def test_cifar_resnet18_computes_what_the_papers_network_computes():
    model = build("resnet18", seed_value=3)
    plain = PlainResNet18()
    names = {"downsample.": "shortcut.", "fc.": "linear."}
    state = {}
    for name, value in model.state_dict().items():
        for ours, theirs in names.items():
            name = name.replace(ours, theirs)
        state[name] = value
    plain.load_state_dict(state, strict=True)
    images = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(model.eval()(images), plain.eval()(images), rtol=1e-4, atol=1e-5)


def test_cifar_vgg16_is_convolutions_and_one_linear_layer():
    model = build("vgg16", seed_value=3)
    body = nn.Sequential(*model.features)
    kinds = [type(layer).__name__ for layer in body]
    assert (kinds.count("Conv2d"), kinds.count("BatchNorm2d"), kinds.count("MaxPool2d")) == (
        13,
        13,
        5,
    )
    images = torch.randn(2, 3, 32, 32)
    model.eval()
    torch.testing.assert_close(model(images), model.head.fc(body(images).flatten(1)))


@pytest.mark.parametrize("name", ["resnet18", "resnet18d", "vgg16"])
def test_cifar_initialization_is_the_default_of_pytorch(name):
    model = build(name, stem="cifar")
    for layer in model.modules():
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            bound = 1 / math.sqrt(layer.weight[0].numel())  # kaiming_uniform, a = sqrt(5)
            assert layer.weight.abs().max() <= bound
            spread = layer.weight.std().item() / (bound / math.sqrt(3))
            assert spread == pytest.approx(1, abs=4 / math.sqrt(layer.weight.numel()))
            if layer.bias is not None:
                assert 0 < layer.bias.abs().max() <= bound
        elif isinstance(layer, nn.BatchNorm2d):
            assert (layer.weight == 1).all(), "the last BatchNorm of a block must not start at zero"
            assert (layer.bias == 0).all()
            assert (layer.running_mean == 0).all()
            assert (layer.running_var == 1).all()
            assert layer.num_batches_tracked == 0


def test_cifar_stem_keeps_the_resolution():
    model = build("resnet18d", stem="cifar", channels=1, size=28)
    assert (model.conv1.weight.shape, model.conv1.stride) == ((64, 1, 3, 3), (1, 1))
    assert model.conv1.bias is None
    assert model.forward_features(torch.zeros(1, 1, 32, 32)).shape[-2:] == (4, 4)


@pytest.mark.parametrize("name", ["test_vit", "resnetv2_50", "repvgg_a0"])
def test_other_families_have_no_cifar_stem(name):
    with pytest.raises(UsageError, match="has no stem 'cifar'"):
        build(name, stem="cifar")


@pytest.mark.parametrize(
    ("name", "size", "stem"),
    [
        ("resnet18", 32, "cifar"),
        ("resnet50.a1_in1k", 64, "cifar"),
        ("vgg16", 28, "cifar"),
        ("vgg11_bn", 64, "cifar"),
        ("resnet50", 65, "keep"),
        ("resnet18d", 32, "keep"),
        ("resnetv2_50", 32, "keep"),
        ("test_resnet", 8, "keep"),
        ("test_vit", 32, "keep"),
    ],
)
def test_auto_stem(name, size, stem):
    assert resolve_stem("auto", name, size) == stem
    assert resolve_stem("keep", name, size) == "keep"


def test_keep_is_timms_own_network():
    model = build("test_resnet", stem="keep", seed_value=5)
    torch.manual_seed(5)
    reference = timm.create_model("test_resnet", num_classes=10)
    for name, value in reference.state_dict().items():
        assert torch.equal(model.state_dict()[name], value)
