"""One batch of images under one corruption at one severity."""

from __future__ import annotations

import numpy as np

from wash_bench.data.corruptions.severities import strengths
from wash_bench.seeds import numpy_stream

SMALLEST = 8  # pixels; smaller images have no room for the blurs


def corrupt(pixels: np.ndarray, name: str, severity: int, batch: int) -> np.ndarray:
    """Corrupt a batch; equal arguments give equal images, whatever was corrupted before.

    Args:
        pixels: (B, H, W, C) uint8, H = W, C 1 or 3.
        name: of ``config.corruptions.CORRUPTIONS``.
        severity: 1 to 5.
        batch: the number of the batch, which the random stream depends on.

    Returns:
        (B, H, W, C) uint8.
    """
    from wash_bench.data.corruptions import kinds  # scipy.ndimage takes a third of a second

    strength = strengths(pixels.shape[1])[name][severity - 1]
    stream = numpy_stream(severity, f"corruption/{name}", batch)
    changed = getattr(kinds, name)(pixels / 255, strength, stream)
    # A thousandth for what rounding has taken off whole numbers; then cut off, as published.
    return (np.clip(changed, 0, 1) * 255 + 1e-3).astype(np.uint8)
