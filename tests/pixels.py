"""Random streams and images for the tests of augmentation."""

from __future__ import annotations

import torch


def stream(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def pixels(batch: int, side: int, channels: int, seed: int = 0) -> torch.Tensor:
    """(B, H, W, C) uint8 without zeros, so that padding can be told from content."""
    shape = (batch, side, side, channels)
    return torch.randint(1, 256, shape, generator=stream(seed), dtype=torch.uint8)
