"""Augmentation and mixing against naive loops over single images."""

from __future__ import annotations

import math

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.images import pixels, stream
from wash_bench.data.augment import (
    augment,
    crop_and_flip,
    cutout_,
    draws_of,
    mix,
    normalize,
    random_erasing_,
    smooth_targets,
)
from wash_bench.data.recipe import Recipe

quick = settings(max_examples=25, deadline=None)


@quick
@given(
    batch=st.integers(1, 9),
    side=st.integers(2, 9),
    channels=st.sampled_from([1, 3]),
    padding=st.integers(0, 3),
    flip=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_crop_and_flip_equals_the_loop(batch, side, channels, padding, flip, seed):
    images = pixels(batch, side, channels)
    result = crop_and_flip(images, padding, flip, draws_of(stream(seed), batch))
    draws, naive = stream(seed), images.numpy()
    offsets = torch.zeros(2, batch, dtype=torch.int64)
    if padding:
        offsets = torch.randint(0, 2 * padding + 1, (2, batch), generator=draws)
    mirrored = torch.randint(0, 2, (batch,), generator=draws) if flip else [0] * batch
    for i in range(batch):
        padded = np.zeros((side + 2 * padding, side + 2 * padding, channels), np.uint8)
        padded[padding : padding + side, padding : padding + side] = naive[i]
        top, left = offsets[:, i].tolist()
        window = padded[top : top + side, left : left + side]
        if mirrored[i]:
            window = window[:, ::-1]
        np.testing.assert_array_equal(result[i].numpy(), window)


def test_every_offset_and_both_sides_occur_about_equally():
    image = pixels(1, 4, 1).expand(6000, 4, 4, 1)
    result = crop_and_flip(image, 1, True, draws_of(stream(), 6000))
    _, counts = torch.unique(result.view(6000, -1), dim=0, return_counts=True)
    assert len(counts) == 3 * 3 * 2
    expected = 6000 / 18
    assert (counts - expected).abs().max() < 5 * math.sqrt(expected)


def test_normalize_is_the_formula_and_channels_last():
    images = pixels(5, 6, 3)
    mean, std = torch.tensor([0.4, 0.5, 0.6]), torch.tensor([0.2, 0.3, 0.25])
    result = normalize(images, mean, std)
    planes = images.permute(0, 3, 1, 2).double() / 255
    expected = (planes - mean[:, None, None]) / std[:, None, None]
    torch.testing.assert_close(result.double(), expected, rtol=0, atol=2e-6)
    assert result.dtype == torch.float32
    assert result.is_contiguous(memory_format=torch.channels_last)


@quick
@given(side=st.integers(1, 12), size=st.integers(4, 12), seed=st.integers(0, 1000))
def test_cutout_blanks_one_clipped_square(side, size, seed):
    images = torch.ones(7, 3, size, size)
    cutout_(images, side, draws_of(stream(seed), 7))
    draws = stream(seed)
    y = torch.randint(0, size, (7,), generator=draws).tolist()
    x = torch.randint(0, size, (7,), generator=draws).tolist()
    for i in range(7):
        expected = np.ones((size, size))
        top, left = y[i] - side // 2, x[i] - side // 2
        expected[max(top, 0) : max(top + side, 0), max(left, 0) : max(left + side, 0)] = 0
        for channel in images[i].numpy():
            np.testing.assert_array_equal(channel, expected)


def boxes_of(images: torch.Tensor) -> list[tuple[int, int]]:
    """(height, width) of the zeroed region of each changed image, checked to be a full box."""
    found = []
    for image in images:
        zero = (image == 0).all(0)
        if zero.any():
            rows, columns = zero.any(1).nonzero(), zero.any(0).nonzero()
            height = int(rows.max() - rows.min()) + 1
            width = int(columns.max() - columns.min()) + 1
            assert int(zero.sum()) == height * width
            found.append((height, width))
    return found


def test_erasing_draws_boxes_in_the_stated_ranges():
    n, size = 4000, 32
    images = torch.ones(n, 1, size, size)
    random_erasing_(images, 0.35, draws_of(stream(), n))
    boxes = boxes_of(images)
    assert abs(len(boxes) / n - 0.35) < 5 * math.sqrt(0.35 * 0.65 / n)
    # Rounding each side by half a pixel is all that may carry a box out of the range.
    for height, width in boxes:
        assert (height - 0.5) * (width - 0.5) <= size**2 / 3
        assert (height + 0.5) * (width + 0.5) >= size**2 * 0.02
        assert (height - 0.5) / (width + 0.5) <= 1 / 0.3
        assert (height + 0.5) / (width - 0.5) >= 0.3
    areas = np.array([h * w for h, w in boxes]) / size**2
    logs = np.log([h / w for h, w in boxes])
    # The largest areas fit less often when they are elongated, hence the one-sided slack.
    assert 0.150 < areas.mean() < 0.180
    assert areas.min() < 0.03 and areas.max() > 0.31
    assert abs(logs.mean()) < 0.08
    # Every border is reached, opposite ones about equally often.
    zero = images[:, 0] == 0
    borders = [zero[:, 0], zero[:, -1], zero[:, :, 0], zero[:, :, -1]]
    touched = [int(border.any(1).sum()) for border in borders]
    for one, other in (touched[:2], touched[2:]):
        assert min(one, other) > 20 and abs(one - other) < 5 * math.sqrt(one + other)


def test_erasing_probabilities_zero_and_one():
    images = torch.ones(200, 3, 16, 16)
    random_erasing_(images, 0.0, draws_of(stream(), 200))
    assert (images == 1).all()
    random_erasing_(images, 1.0, draws_of(stream(), 200))
    assert len(boxes_of(images)) == 200


def soft(labels: list[int], classes: int, smoothing: float) -> np.ndarray:
    """The targets by METHODS' formula, one entry at a time."""
    table = np.full((len(labels), classes), smoothing / classes)
    for i, label in enumerate(labels):
        table[i, label] = 1 - smoothing + smoothing / classes
    return table


def test_smoothing_is_the_formula():
    result = smooth_targets(torch.tensor([2, 0, 3]), 4, 0.1)
    np.testing.assert_allclose(result.numpy(), soft([2, 0, 3], 4, 0.1), atol=1e-7)
    torch.testing.assert_close(result.sum(1), torch.ones(3))


@quick
@given(
    batch=st.integers(2, 9),
    alpha=st.sampled_from([0.1, 0.5, 1.0]),
    smoothing=st.sampled_from([0.0, 0.05, 0.1]),
    kind=st.sampled_from(["mixup", "cutmix"]),
    seed=st.integers(0, 1000),
)
def test_mixed_targets_carry_the_weights_of_the_pixels(batch, alpha, smoothing, kind, seed):
    """Image i is filled with the value i: the pixels alone then tell each partner's share."""
    labels = torch.arange(batch)
    size = 12
    images = torch.arange(float(batch)).view(-1, 1, 1, 1).expand(-1, 2, size, size).clone()
    recipe = Recipe(label_smoothing=smoothing).but(**{kind: alpha})
    mixed, targets = mix(images, labels, recipe, batch, stream(seed))
    own, partner = soft(range(batch), batch, smoothing), soft(range(batch)[::-1], batch, smoothing)
    shares = set()
    for i in range(batch):
        j = batch - 1 - i
        if i == j:
            np.testing.assert_allclose(mixed[i].numpy(), i, rtol=1e-5, atol=1e-5)
            np.testing.assert_allclose(targets[i].numpy(), own[i], atol=1e-6)
            continue
        image = mixed[i].double()
        if kind == "cutmix":
            taken = image == j
            assert ((image == i) | taken).all()
            boxes_of(torch.where(taken, 0.0, 1.0)[None])
        share = float((image.mean() - j) / (i - j))
        shares.add(round(share, 4))
        expected = share * own[i] + (1 - share) * partner[i]
        np.testing.assert_allclose(targets[i].numpy(), expected, atol=1e-4)
    assert max(shares) - min(shares) < 2e-4  # one lambda for the whole batch


def test_both_mixes_take_turns_and_neither_leaves_labels_alone():
    labels = torch.tensor([0, 1])
    cut = 0
    for seed in range(400):
        images = torch.tensor([0.0, 1.0]).view(2, 1, 1, 1).expand(2, 1, 8, 8).clone()
        mixed, _ = mix(images, labels, Recipe(mixup=1.0, cutmix=1.0), 2, stream(seed))
        cut += bool(((mixed == 0) | (mixed == 1)).all())
    assert abs(cut / 400 - 0.5) < 5 * 0.5 / 20
    images = torch.ones(2, 1, 8, 8)
    same, targets = mix(images, labels, Recipe(), 2, stream())
    assert same is images and targets is labels


def test_lambda_is_beta_distributed():
    shares = []
    for seed in range(1500):
        images = torch.tensor([0.0, 1.0]).view(2, 1, 1, 1).clone()
        shares.append(
            float(mix(images, torch.tensor([0, 1]), Recipe(mixup=0.5), 2, stream(seed))[1][0, 0])
        )
    assert abs(np.mean(shares) - 0.5) < 0.05
    assert abs(np.var(shares) - 1 / (4 * (2 * 0.5 + 1))) < 0.012  # Var of Beta(a, a)


def test_unchosen_knobs_do_not_move_the_crop():
    """Members with and without erasing see the same windows: later draws follow earlier ones."""
    images = pixels(16, 12, 1)
    mean, std = torch.tensor([0.5]), torch.tensor([0.25])
    base = Recipe(crop_padding=2, flip=True)
    plain = augment(images, base, mean, std, draws_of(stream(5), len(images)))
    erased = augment(
        images, base.but(random_erasing=1.0), mean, std, draws_of(stream(5), len(images))
    )
    same = (plain == erased) | (erased == 0)
    assert same.all() and not torch.equal(plain, erased)
