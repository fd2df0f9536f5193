"""Networks: names without timm, seeds, families that fit, and refusals."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path

import pytest
import timm
import torch
from torch import nn

from tests.support.networks import build, fit, parameters
from wash_bench.errors import UsageError
from wash_bench.models.build import build_model
from wash_bench.models.check import check_fit
from wash_bench.models.init_checkpoint import InitCheckpoint
from wash_bench.models.names import architecture_names, check_architecture

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


# Seeds -------------------------------------------------------------------------------------------


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.parametrize("name", ["test_resnet", "test_efficientnet", "test_vit", "resnet8"])
def test_a_stem_for_colours_takes_grey_images_and_gives_what_three_equal_channels_gave(name):
    def built(channels, seed):
        return build_model(name, classes=5, channels=channels, size=32, seed_value=seed).eval()

    coloured, grey = built(3, 0), built(1, 1)
    file = InitCheckpoint(Path("file"), "", coloured.state_dict(), "file")
    note = file.load_into(grey, name)
    assert "adapted to 1 channel(s), the sum over 3 colours" in note
    images = torch.rand(2, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(grey(images), coloured(images.expand(-1, 3, -1, -1)))
