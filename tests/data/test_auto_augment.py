"""Automatic augmentation against torchvision's transforms of single images."""

from __future__ import annotations

import pytest
import torch
from torchvision.transforms import AutoAugmentPolicy, v2

from tests.support.images import pixels, stream
from wash_bench.data import auto_augment as aa


@pytest.mark.parametrize("channels", [1, 3])
def test_auto_augment_keeps_form_and_does_not_touch_its_input(channels):
    images = pixels(64, 28, channels).permute(0, 3, 1, 2).contiguous()
    before = images.clone()
    result = aa.auto_augment(images, stream())
    assert result.shape == images.shape and result.dtype == torch.uint8
    assert torch.equal(images, before)
    changed = (result != images).flatten(1).any(1).float().mean()
    assert changed > 0.5
    assert torch.equal(result, aa.auto_augment(images, stream()))


def test_operations_of_probability_zero_are_the_identity():
    images = pixels(32, 16, 3).permute(0, 3, 1, 2).contiguous()
    policy = tuple(
        tuple((name, 0.0, level) for name, _, level in pair) for pair in aa.cifar10_policy()
    )
    assert torch.equal(aa.auto_augment(images, stream(), policy), images)


@pytest.mark.slow
def test_each_image_gets_what_torchvisions_single_image_transform_gives():
    """One certain operation at a time: the result is one of torchvision's for its two signs."""
    images = pixels(8, 32, 3).permute(0, 3, 1, 2).contiguous()
    oracle = v2.AutoAugment(AutoAugmentPolicy.CIFAR10)
    assert len(aa.cifar10_policy()) == 25
    for name, level in sorted({(n, k) for p in aa.cifar10_policy() for n, _, k in p}, key=str):
        one = ((name, 1.0, level), ("Invert", 0.0, None))
        oracle._policies = [one]
        result = aa.auto_augment(images, stream(3), (one,))
        signs = set()
        for image, got in zip(images, result, strict=True):
            possible = []
            for seed in range(8):
                torch.manual_seed(seed)
                wanted = oracle(image)
                if not any(torch.equal(wanted, other) for other in possible):
                    possible.append(wanted)
            match = [k for k, wanted in enumerate(possible) if torch.equal(got, wanted)]
            assert match, (name, level)
            signs.add(match[0])
            assert len(possible) <= 2
        assert signs == set(range(len(possible))), (name, level)
