"""Random streams and images for the tests of augmentation."""

from __future__ import annotations

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


def class_folders(folder: Path, count: int, width: int, height: int) -> Path:
    """An image folder with two classes, ``count`` pictures of noise in each of their folders."""
    draw = np.random.default_rng(0)
    for split, name in ((s, n) for s in ("train", "val") for n in ("a", "b")):
        (folder / split / name).mkdir(parents=True)
        for number in range(count):
            noise = draw.integers(0, 256, (height, width, 3), dtype=np.uint8)
            Image.fromarray(noise).save(folder / split / name / f"{number}.png")
    return folder
