"""Augmentation of whole batches on their device: crop, flip, normalization, Cutout, erasing.

Every random number is drawn on the CPU from each batch's own stream, and then moved, so that the
same stream augments alike on every device. Shapes: B images, C channels, H x W pixels.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from wash_bench.data.auto_augment import auto_augment
from wash_bench.data.draws import Draws
from wash_bench.data.moving import to_device
from wash_bench.data.recipe import Recipe

# Zhong et al. 2020 with PAPA's bounds (timm's RandomErasing, mode const, one box).
ERASING_AREA = (0.02, 1 / 3)
ERASING_ASPECT = (0.3, 1 / 0.3)
ERASING_ATTEMPTS = 10


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
