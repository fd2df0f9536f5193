"""Mixup, CutMix and label smoothing, as timm's ``Mixup`` in mode ``batch`` does them for PAPA.

Shapes: B images, C channels, H x W pixels, K classes.
"""

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from wash_bench.data.recipe import Recipe


def mix(
    images: Tensor, labels: Tensor, recipe: Recipe, classes: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Mix a batch with its own reverse and make the targets, by the recipe.

    One lambda ~ Beta(alpha, alpha) and, for CutMix, one box serve the whole batch. Where the recipe
    has both, each batch takes CutMix with probability 1/2. ``images`` is changed in place.

    Args:
        images: (B, C, H, W) float32.
        labels: (B,) int64, on the images' device.
        recipe: its mixup, cutmix and label_smoothing.
        classes: K.
        generator: CPU generator of this batch.

    Returns:
        The images, and (B,) int64 labels or, where the recipe mixes or smooths, (B, K) float32.
    """
    share = 1.0  # of the batch itself; the rest comes from its reverse
    if recipe.mixup or recipe.cutmix:
        # torch has no Beta draw from a given generator: one draw seeds NumPy's.
        seed = int(torch.randint(0, 2**63 - 1, (), generator=generator))
        rng = np.random.Generator(np.random.Philox(key=seed))
        cut = bool(recipe.cutmix) and (not recipe.mixup or rng.random() < 0.5)
        alpha = recipe.cutmix if cut else recipe.mixup
        share = float(rng.beta(alpha, alpha))
        share = _paste_box_(images, share, rng) if cut else _blend_(images, share)
    elif not recipe.label_smoothing:
        return images, labels
    targets = smooth_targets(labels, classes, recipe.label_smoothing)
    if share < 1:
        targets = share * targets + (1 - share) * targets.flip(0)
    return images, targets


def smooth_targets(labels: Tensor, classes: int, smoothing: float) -> Tensor:
    """(B, K) float32: s/K everywhere and 1 - s + s/K at the label."""
    off = smoothing / classes
    return F.one_hot(labels, classes).to(torch.float32).mul_(1 - smoothing).add_(off)


def _blend_(images: Tensor, share: float) -> float:
    """Mixup (Zhang et al. 2018)."""
    partner = images.flip(0).mul_(1 - share)
    images.mul_(share).add_(partner)
    return share


def _paste_box_(images: Tensor, share: float, rng: np.random.Generator) -> float:
    """CutMix (Yun et al. 2019); returns the share corrected to the box as clipped."""
    height, width = images.shape[2:]
    ratio = math.sqrt(1 - share)
    half_height, half_width = int(height * ratio) // 2, int(width * ratio) // 2
    y, x = int(rng.integers(height)), int(rng.integers(width))
    rows = slice(max(y - half_height, 0), min(y + half_height, height))
    columns = slice(max(x - half_width, 0), min(x + half_width, width))
    images[:, :, rows, columns] = images[:, :, rows, columns].flip(0)
    area = (rows.stop - rows.start) * (columns.stop - columns.start)
    return 1 - area / (height * width)
