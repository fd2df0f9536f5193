"""Random streams and images for the tests of augmentation."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image


def stream(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def pixels(batch: int, side: int, channels: int, seed: int = 0) -> torch.Tensor:
    """(B, H, W, C) uint8 without zeros, so that padding can be told from content."""
    shape = (batch, side, side, channels)
    return torch.randint(1, 256, shape, generator=stream(seed), dtype=torch.uint8)


def class_folders(
    folder: Path,
    count: int,
    width: int,
    height: int,
    *,
    names: Sequence[str] = ("a", "b"),
    test_count: int | None = None,
    uneven: bool = False,
) -> Path:
    """An image folder with two classes, ``count`` pictures of noise in each of their folders.

    In those of val/ ``test_count`` if it is given. Uneven ones grow by a pixel of height each; then
    the second is grey, and the third has a palette.
    """
    draw = np.random.default_rng(0)
    counts = {"train": count, "val": count if test_count is None else test_count}
    for split, name in ((s, n) for s in counts for n in names):
        (folder / split / name).mkdir(parents=True)
        for number in range(counts[split]):
            shape = (height + number * uneven, width, 3)
            image = Image.fromarray(draw.integers(0, 256, shape, dtype=np.uint8))
            if uneven and number in (1, 2):
                image = image.convert("LP"[number - 1])
            image.save(folder / split / name / f"{number}.png")
    return folder
