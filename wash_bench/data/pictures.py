"""Pictures of any depth as 8 bits a channel."""

import numpy as np
from PIL import Image


def rgb(picture: Image.Image) -> Image.Image:
    """A picture in red, green and blue, 8 bits each.

    Pillow clips what has more than 8 bits, which makes pictures flat; here 16 bits are scaled, and
    floating-point values from 0 to 1.

    Returns:
        The picture.

    Raises:
        ValueError: its numbers have no range that is known.
    """
    if picture.mode in ("I", "F") or picture.mode.startswith("I;16"):
        values = np.asarray(picture)
        low, high = float(values.min()), float(values.max())
        top = 1.0 if picture.mode == "F" else 65535.0
        if not 0 <= low <= high <= top:
            raise ValueError(
                f"mode {picture.mode} with values from {low:g} to {high:g}: save it with 8 bits, 16"
                " bits, or as floating-point numbers from 0 to 1"
            )
        grey = np.round(values.astype(np.float64) * (255 / top)).astype(np.uint8)
        return Image.fromarray(grey).convert("RGB")
    return picture.convert("RGB")
