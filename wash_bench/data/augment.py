"""Augmentation of whole batches on their device: crop, flip, normalization, Cutout, erasing.

Every random number is drawn on the CPU from each batch's own stream, and then moved, so that the
same stream augments alike on every device. Shapes: B images, C channels, H x W pixels.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from wash_bench.data.auto_augment import auto_augment
from wash_bench.data.device import to_device
from wash_bench.data.recipe import Recipe

# Zhong et al. 2020 with PAPA's bounds (timm's RandomErasing, mode const, one box).
ERASING_AREA = (0.02, 1 / 3)
ERASING_ASPECT = (0.3, 1 / 0.3)
ERASING_ATTEMPTS = 10


@dataclass(frozen=True)
class Draws:
    """What is drawn for each image, so that batches can be augmented together as if in turn.

    Attributes:
        streams: a CPU generator a batch.
        sizes: images of each batch; B in all.
    """

    streams: Sequence[torch.Generator]
    sizes: Sequence[int]

    @property
    def only(self) -> torch.Generator:
        """The stream, where there is one batch."""
        (stream,) = self.streams
        return stream

    def integers(self, stop: int, *lead: int) -> Tensor:
        """(*lead, B) int64, uniform in [0, ``stop``)."""
        pairs = zip(self.streams, self.sizes, strict=True)
        return torch.cat(
            [torch.randint(0, stop, (*lead, size), generator=stream) for stream, size in pairs], -1
        )

    def uniform(self, lead: Sequence[int] = (), trail: Sequence[int] = ()) -> Tensor:
        """(*lead, B, *trail) float32, uniform in [0, 1)."""
        pairs = zip(self.streams, self.sizes, strict=True)
        return torch.cat(
            [torch.rand(*lead, size, *trail, generator=stream) for stream, size in pairs],
            len(lead),
        )


def draws_of(stream: torch.Generator, images: int) -> Draws:
    """The draws of one batch."""
    return Draws([stream], [images])


def augment(images: Tensor, recipe: Recipe, mean: Tensor, std: Tensor, draws: Draws) -> Tensor:
    """Everything in a recipe that looks at one image at a time.

    Args:
        images: (B, H, W, C) uint8.
        recipe: what to apply, in the order crop, flip, AutoAugment, normalization, Cutout, erasing.
        mean: (C,) of pixels in [0, 1], on the images' device.
        std: (C,), likewise.
        draws: of the B images; of one batch where the recipe has AutoAugment.

    Returns:
        (B, C, H, W) float32, channels-last.
    """
    images = crop_and_flip(images, recipe.crop_padding, recipe.flip, draws)
    if recipe.auto_augment:
        planes = auto_augment(images.permute(0, 3, 1, 2).contiguous(), draws.only)
        images = planes.permute(0, 2, 3, 1)
    normalized = normalize(images, mean, std)
    if recipe.cutout:
        cutout_(normalized, recipe.cutout, draws)
    if recipe.random_erasing:
        random_erasing_(normalized, recipe.random_erasing, draws)
    return normalized


def crop_and_flip(images: Tensor, padding: int, flip: bool, draws: Draws) -> Tensor:
    """A random H x W window of the zero-padded image, then mirrored with probability 1/2.

    Args:
        images: (B, H, W, C) uint8.
        padding: zero pixels on each side; 0 leaves the window as it is.
        flip: whether images are mirrored.
        draws: of the B images.

    Returns:
        (B, H, W, C) uint8.
    """
    if not padding and not flip:
        return images
    if padding:
        batch, height, width, channels = images.shape
        offsets = 2 * padding + 1
        top, left = to_device(draws.integers(offsets, 2), images.device)
        padded = F.pad(images, (0, 0, padding, padding, padding, padding))
        # A view of every window at every offset, so that one indexing copies whole pixel rows.
        image, row, pixel, _ = padded.stride()
        windows = padded.as_strided(
            (batch, offsets, offsets, height, width * channels), (image, row, pixel, row, 1)
        )
        each = torch.arange(batch, device=images.device)
        images = windows[each, top, left].view(batch, height, width, channels)
    if flip:
        mirrored = to_device(draws.integers(2).nonzero()[:, 0], images.device)
        images = images.index_copy(0, mirrored, images[mirrored].flip(2))
    return images


def normalize(images: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """(B, H, W, C) uint8 to (B, C, H, W) float32, channels-last, (pixel / 255 - mean) / std."""
    batch, height, width, channels = images.shape
    # Rows of W * C values: far faster to broadcast over than an innermost axis of C = 3.
    scale, shift = (1 / (255 * std)).repeat(width), (mean / std).repeat(width)
    rows = images.reshape(batch, height, width * channels).to(torch.float32)
    scaled = rows.mul_(scale).sub_(shift).view(batch, height, width, channels)
    return scaled.permute(0, 3, 1, 2).contiguous(memory_format=torch.channels_last)


def cutout_(images: Tensor, side: int, draws: Draws) -> None:
    """Set one square of each normalized image to 0, the mean, in place (DeVries & Taylor 2017).

    The centre is any pixel, so that the square is clipped at the borders.
    """
    height, width = images.shape[2:]
    top = draws.integers(height) - side // 2
    left = draws.integers(width) - side // 2
    _blank_boxes_(images, torch.stack([top, top + side, left, left + side]))


def random_erasing_(images: Tensor, probability: float, draws: Draws) -> None:
    """Set one random box of some normalized images to 0 in place (Zhong et al. 2020).

    Each image is chosen with ``probability``. The box has an area of U(0.02, 1/3) of the image's
    and a log aspect ratio of U(log 0.3, log 1/0.3); one that does not fit is drawn again, at most
    ten times in all, after which the image stays as it is.
    """
    height, width = images.shape[2:]
    chosen = draws.uniform() < probability
    share, position = draws.uniform([2], [ERASING_ATTEMPTS])
    low, high = ERASING_AREA
    area = (low + (high - low) * share) * height * width
    low, high = map(math.log, ERASING_ASPECT)
    aspect = torch.exp(low + (high - low) * position)
    heights = torch.sqrt(area * aspect).round().long()
    widths = torch.sqrt(area / aspect).round().long()
    fits = (heights < height) & (widths < width)
    attempt = fits.int().argmax(1, keepdim=True)  # the first that fits
    box_height = heights.gather(1, attempt)[:, 0]
    box_width = widths.gather(1, attempt)[:, 0]
    erased = chosen & fits.any(1)
    u, v = draws.uniform([2])
    top = (u * (height - box_height + 1)).long()
    left = (v * (width - box_width + 1)).long()
    boxes = torch.stack([top, top + box_height, left, left + box_width])
    _blank_boxes_(images, boxes * erased)  # an empty box leaves its image alone


def _blank_boxes_(images: Tensor, boxes: Tensor) -> None:
    """Zero one box an image; ``boxes`` is (4, B): top, bottom, left, right (ends excluded)."""
    height, width = images.shape[2:]
    top, bottom, left, right = to_device(boxes, images.device)[:, :, None]
    y = torch.arange(height, device=images.device)
    x = torch.arange(width, device=images.device)
    rows = (y >= top) & (y < bottom)
    columns = (x >= left) & (x < right)
    images.masked_fill_((rows[:, :, None] & columns[:, None, :])[:, None], 0.0)


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
