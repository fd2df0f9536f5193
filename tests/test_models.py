"""Networks: names without timm, the papers' small-image forms, seeds, and refusals."""

from __future__ import annotations

import math
import subprocess
import sys

import pytest
import timm
import torch
from torch import nn

from wash_bench.errors import UsageError
from wash_bench.models.build import build_model
from wash_bench.models.check import check_fit
from wash_bench.models.names import architecture_names, check_architecture
from wash_bench.models.stems import resolve_stem


def build(name: str, *, classes: int = 10, channels: int = 3, size: int = 32, **rest) -> nn.Module:
    return build_model(
        name, classes=classes, channels=channels, size=size, **({"seed_value": 1} | rest)
    )


def fit(name: str, *, classes: int = 10, channels: int = 3, size: int, batch_size: int = 8, **rest):
    return check_fit(
        lambda: build(name, classes=classes, channels=channels, size=size, **rest),
        name=name,
        classes=classes,
        channels=channels,
        size=size,
        batch_size=batch_size,
    )


def parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


# Names -------------------------------------------------------------------------------------------


def test_names_are_those_of_timm():
    assert sorted(architecture_names()) == sorted(timm.list_models())
    assert architecture_names().index("resnet18") < architecture_names().index("resnet101")


def test_names_import_neither_torch_nor_timm():
    code = (
        "import sys; from wash_bench.models.names import check_architecture;"
        "from wash_bench.models.stems import resolve_stem; check_architecture('resnet18');"
        "assert not {'torch', 'timm'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_old_names_and_tags():
    from timm.models._registry import get_deprecated_models

    assert check_architecture("resnet18") == "resnet18"
    assert check_architecture("resnet18.a1_in1k") == "resnet18.a1_in1k"
    renamed = {old: new for old, new in get_deprecated_models().items() if new}
    assert len(renamed) > 100
    for old, new in list(renamed.items())[::10]:
        assert check_architecture(old) in (new, new.partition(".")[0])
    build("test_resnet.r160_in1k")
    with pytest.raises(UsageError, match="has no tag 'nonsense'"):
        build("vit_base_patch32_clip_quickgelu_224.nonsense")  # its tags are made by code


def test_tags_of_timm_are_known():
    sample = [name for name in timm.list_models(include_tags=True) if "." in name][::100]
    assert len(sample) > 10
    assert [check_architecture(name) for name in sample] == sample


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("resnet81", "resnet1"),
        ("resnet_18", "resnet18"),
        ("resnet18.a1_in2k", "a1_in1k"),
        ("vgg11.", "has no tag"),
        ("", "unknown model"),
    ],
)
def test_unknown_names_get_the_nearest(name, words):
    with pytest.raises(UsageError) as caught:
        check_architecture(name)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


# The papers' small-image networks ----------------------------------------------------------------


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


# Seeds -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["test_resnet", "test_vit", "resnet18", "vgg11_bn"])
def test_weights_depend_on_the_seed_alone(name):
    torch.manual_seed(11)
    before = torch.get_rng_state()
    first = build(name, seed_value=7).state_dict()
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(12)
    again, other = build(name, seed_value=7), build(name, seed_value=8)
    assert all(torch.equal(first[key], value) for key, value in again.state_dict().items())
    weights = [key for key, value in first.items() if value.ndim == 4]
    assert weights
    assert not any(torch.equal(first[key], other.state_dict()[key]) for key in weights)


# Families ----------------------------------------------------------------------------------------

FAMILIES = [
    "test_resnet",
    "test_vit",
    "test_convnext",
    "test_efficientnet",
    "test_byobnet",
    "test_nfnet",
    "mobilenetv3_small_050",
    "vgg11_bn",
]


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", FAMILIES)
def test_families_fit(name, channels):
    layout = fit(name, channels=channels, size=32, classes=7)
    assert layout.size == parameters(build(name, channels=channels, classes=7))


def test_image_size_reaches_networks_of_fixed_size():
    # 28 pixels in patches of 7: 16 patches, and the class token has a place too.
    model = build("test_vit", channels=1, size=28, model_args={"patch_size": 7})
    assert model.pos_embed.shape[1] in (16, 17)
    fit("test_vit", channels=1, size=28, model_args={"patch_size": 7})
    chosen = build("test_vit", size=28, model_args={"img_size": 64})
    assert chosen.patch_embed.img_size == (64, 64)


def test_check_leaves_the_global_generator_alone():
    torch.manual_seed(4)
    before = torch.get_rng_state()
    fit("test_vit", size=32, model_args={"drop_rate": 0.5, "proj_drop_rate": 0.5})
    assert torch.equal(torch.get_rng_state(), before)


# Refusals ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"no_such": 1}, "takes no argument 'no_such'"),
        ({"pretrained": True}, "from scratch"),
        ({"num_classes": 3}, "data set"),
        ({"global_pool": "mean"}, "global_pool=mean"),
    ],
)
@pytest.mark.parametrize("name", ["test_resnet", "vgg11_bn"])
def test_wrong_model_arguments_take_one_line(name, arguments, words):
    with pytest.raises(UsageError) as caught:
        fit(name, size=32, model_args=arguments)
    assert "\n" not in str(caught.value)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("test_convnext", {"size": 8}, "smaller than the network's stride"),
        ("vgg11_bn", {"size": 16}, "smaller than the network's stride"),
        ("test_vit", {"size": 28}, "patch"),
        ("test_vit3", {"size": 8}, "smaller than the network's stride or patch"),
        ("test_resnet", {"size": 16, "batch_size": 1}, "--batch-size 1: BatchNorm"),
        ("test_resnet", {"size": 32, "model_args": {"global_pool": ""}}, "shape"),
    ],
)
def test_what_cannot_work_is_refused_with_the_reason(name, options, words):
    with pytest.raises(UsageError) as caught:
        fit(name, **options)
    line = str(caught.value)
    assert words in line
    assert name in line
    assert "\n" not in line
    assert "--" in line, "the line names the option that mends it"


def test_cifar_stem_is_offered_where_it_would_help():
    with pytest.raises(UsageError, match="--stem cifar"):
        fit("vgg11", size=28, stem="keep", model_args={"mlp_ratio": 0.01})
    fit("vgg11", size=32, stem="cifar")


class Odd(nn.Module):
    """A network that gives something other than one tensor of scores."""

    def __init__(self, give, dtype=torch.float32) -> None:
        super().__init__()
        self.linear = nn.Linear(3 * 8 * 8, 10, dtype=dtype)
        self.give = give

    def forward(self, images):
        return self.give(self.linear(images.flatten(1)))


@pytest.mark.parametrize(
    ("network", "words"),
    [
        (lambda: Odd(lambda y: (y, y)), "returns a tuple"),
        (lambda: Odd(lambda y: {"logits": y}), "returns a dict"),
        (lambda: Odd(lambda y: y[:, :5]), "shape"),
        (lambda: Odd(lambda y: y * math.nan), "not finite"),
        (lambda: Odd(lambda y: y, torch.float64), "float64"),
    ],
)
def test_odd_networks_are_refused(network, words):
    with pytest.raises(UsageError, match=words):
        check_fit(network, name="odd", classes=10, channels=3, size=8, batch_size=4)
    check_fit(lambda: Odd(lambda y: y), name="odd", classes=10, channels=3, size=8, batch_size=4)
