"""Our residual networks: sizes of the paper, dead weights, shortcuts, widths, timm's registry."""

from __future__ import annotations

import pytest
import timm
import torch
from torch.nn import functional as F

from wash_bench.errors import UsageError
from wash_bench.models.build import build_model
from wash_bench.models.names import OWN_NETWORKS, architecture_names
from wash_bench.models.residual import BasicBlock


def built(name: str, channels: int = 1, size: int = 16, **model_args):
    return build_model(
        name, classes=10, channels=channels, size=size, model_args=model_args, seed_value=0
    )


# He et al. 2016, table 6: 0.27 M, 0.46 M and 0.85 M parameters.
@pytest.mark.parametrize(
    ("name", "channels", "parameters"),
    [
        ("resnet8", 1, 75_002),
        ("resnet20", 3, 269_722),
        ("resnet32", 3, 464_154),
        ("resnet56", 3, 853_018),
        ("resnet10-narrow", 1, 308_538),
    ],
)
def test_parameters_are_counted_as_in_the_paper(name, channels, parameters):
    assert sum(p.numel() for p in built(name, channels).parameters()) == parameters


@pytest.mark.parametrize(
    ("name", "size"),
    [
        *(("resnet8", size) for size in (8, 16, 28)),
        *(("resnet20", size) for size in (16, 28)),
        *(("resnet10-narrow", size) for size in (8, 16, 28)),
    ],
)
def test_every_weight_takes_part(name, size):
    network = built(name, size=size)
    images = torch.randn(64, 1, size, size, generator=torch.Generator().manual_seed(0))
    F.cross_entropy(network(images), torch.arange(64) % 10).backward()
    silent = sum(int((p.grad == 0).sum()) for p in network.parameters())
    # At 8 px the last stage of resnet10-narrow has maps of one pixel: the centre taps alone act of
    # its second convolution, and the lower right four taps of its first, which has a stride of 2.
    expected = 5 * 64 * 128 + 8 * 128 * 128 if (name, size) == ("resnet10-narrow", 8) else 0
    assert silent == expected


def test_the_parameter_free_shortcut_is_every_second_pixel_with_zero_channels():
    block = BasicBlock(2, 5, stride=2, project=False)
    x = torch.randn(3, 2, 6, 6)
    expected = torch.zeros(3, 5, 3, 3)
    for row in range(3):
        for column in range(3):
            expected[:, :2, row, column] = x[:, :, 2 * row, 2 * column]
    assert torch.equal(block.shortcut(x), expected)


def test_a_width_multiplies_all_channels():
    narrow, wide = built("resnet8"), built("resnet8", width=2.0)
    for one, other in zip(narrow.stages, wide.stages, strict=True):
        assert other[0].conv2.out_channels == 2 * one[0].conv2.out_channels
    with pytest.raises(UsageError, match="takes no argument 'depth'"):
        built("resnet8", depth=3)


def test_timm_builds_them_by_name_and_the_lists_have_them():
    assert {*OWN_NETWORKS} <= {*architecture_names()}
    network = timm.create_model("resnet10-narrow", num_classes=7, in_chans=3)
    assert network(torch.randn(2, 3, 16, 16)).shape == (2, 7)
