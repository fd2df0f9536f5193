"""Pictures of any depth as 8 bits a channel, read by the formats that data sets are of."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import IO

import numpy as np
from PIL import Image

# No format that starts another program (EPS) or fetches something is among them.
FORMATS = ("JPEG", "PNG", "TIFF", "BMP", "PPM", "WEBP", "GIF", "MPO", "JPEG2000", "AVIF", "TGA")
RANGES = (255, 1023, 4095, 16383, 65535)
"""The greatest values of grey pictures of 8, 10, 12, 14 and 16 bits."""
READ_FOR_RANGE = 2_000  # pictures that tell the range of all


def opened(path: str | IO[bytes]) -> Image.Image:
    """Open a picture file, or its bytes; an exception of many kinds if it is none."""
    return Image.open(path, formats=_formats())


@cache
def _formats() -> tuple[str, ...]:
    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)


def top_of(paths: Sequence[str]) -> int:
    """Return the white of grey pictures of 16 or 32 bits: the least range that holds all of them.

    Cameras and labelling tools leave 8, 10, 12 or 14 bits in such files. One range serves all
    pictures of a data set, so that their brightness can be compared.
    """
    greatest = 0
    for path in paths[:: len(paths) // READ_FOR_RANGE + 1]:
        try:
            with opened(path) as file:
                greatest = max(greatest, int(np.asarray(file).max()))
        except Exception:  # broken: named when it is used
            continue
    return next((top for top in RANGES if greatest <= top), RANGES[-1])


def rgb(picture: Image.Image, top: int = 0) -> Image.Image:
    """A picture in red, green and blue, 8 bits each.

    Pillow clips what has more than 8 bits, which makes pictures flat; here integers are scaled
    from 0 to ``top`` (0: 65535), and floating-point values from 0 to 1.

    Returns:
        The picture.

    Raises:
        ValueError: its numbers are not in that range.
    """
    if picture.mode in ("I", "F") or picture.mode.startswith("I;16"):
        values = np.asarray(picture)
        low, high = float(values.min()), float(values.max())
        white = 1.0 if picture.mode == "F" else float(top or RANGES[-1])
        if not 0 <= low <= high <= white:
            raise ValueError(
                f"mode {picture.mode} with values from {low:g} to {high:g}, where white is "
                f"{white:g}: save it with 8 bits, 16 bits, or as floating-point numbers from 0 to 1"
            )
        grey = np.round(values.astype(np.float64) * (255 / white)).astype(np.uint8)
        return Image.fromarray(grey).convert("RGB")
    return picture.convert("RGB")
