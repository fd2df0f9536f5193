"""Readings of the settings that are written as text: classes, grids, initial weights, intervals."""

import math
import re
from collections.abc import Mapping
from typing import Any

CHECKPOINT_PREFIX = "checkpoint:"
PRETRAINED = "pretrained"
"""Timm's own weights; a run's settings have the checkpoint that this stands for."""
BRANCHES = ("plain", "auto-augment", "cutout", "cutmix", "mixup")
"""Augmentations that a member may have to itself."""
# What may differ between members, with the least and the greatest value (lr: above 0).
VARIED = {
    "lr": (0.0, math.inf),
    "weight_decay": (0.0, math.inf),
    "mixup": (0.0, math.inf),
    "cutmix": (0.0, math.inf),
    "label_smoothing": (0.0, 1.0),
    "random_erasing": (0.0, 1.0),
}


def path_in(init: str) -> str:
    """PATH of ``checkpoint:PATH``, else empty."""
    return (
        init.removeprefix(CHECKPOINT_PREFIX).strip() if init.startswith(CHECKPOINT_PREFIX) else ""
    )


def parse_grid(given: Any) -> dict[str, tuple[float, ...]]:
    """Values by sorted name, from ``["lr=0.1,0.03"]`` or a table of lists; a ValueError if not."""
    if isinstance(given, Mapping):
        pairs = [(str(name), values) for name, values in given.items()]
    else:
        texts = [str(text) for text in (given if isinstance(given, list | tuple) else [given])]
        pairs = [(text.partition("=")[0], text.partition("=")[2].split(",")) for text in texts]
    grid: dict[str, tuple[float, ...]] = {}
    for raw, values in pairs:
        name = raw.strip().replace("-", "_")
        if name not in VARIED:
            raise ValueError(f"{name!r} cannot vary; write NAME=V1,V2 with {', '.join(VARIED)}")
        if name in grid:
            raise ValueError(f"{name} is given twice")
        values = list(values) if isinstance(values, list | tuple) else [values]
        grid[name] = tuple(_varied(name, value) for value in values)
        if not values or len(set(grid[name])) < len(values):
            raise ValueError(f"{name} needs different values, as {name}=0.1,0.03")
    return dict(sorted(grid.items()))


def _varied(name: str, value: Any) -> float:
    low, high = VARIED[name]
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not (math.isfinite(number) and low <= number <= high) or (name == "lr" and not number):
        bounds = f"from {low:g}" + ("" if math.isinf(high) else f" to {high:g}")
        bounds = "above 0" if name == "lr" else bounds
        raise ValueError(f"{name}={str(value).strip()}: must be a number {bounds}")
    return number


def parse_channels(given: Any) -> tuple[float, ...] | None:
    """Numbers, one a channel, from ``"0.5,0.5,0.5"`` or a list; a ValueError if they are none."""
    if given is None:
        return None
    items = given if isinstance(given, list | tuple) else str(given).split(",")
    try:
        numbers = tuple(math.nan if isinstance(item, bool) else float(item) for item in items)
    except (TypeError, ValueError):
        numbers = ()
    if not numbers or not all(map(math.isfinite, numbers)):
        raise ValueError("must be numbers separated by commas, one a channel")
    return numbers


def parse_classes(given: Any) -> str:
    """Classes as ``0,1,2`` or ``all``, from ``0-2``, ``0,1-2`` or a list; a ValueError if not."""
    text = ",".join(map(str, given)) if isinstance(given, list | tuple) else str(given)
    text = text.replace(" ", "")
    if text == "all":
        return text
    if not re.fullmatch(r"\d{1,6}(-\d{1,6})?(,\d{1,6}(-\d{1,6})?)*", text):
        raise ValueError("must be all, or numbers of classes as 0-4 or 0,2,5")
    chosen: list[int] = []
    for part in text.split(","):
        first, _, last = part.partition("-")
        chosen += range(int(first), int(last or first) + 1)
    if len(set(chosen)) < len(chosen):
        raise ValueError("names a class twice")
    if len(chosen) < 2:
        raise ValueError("must name at least two classes")
    return ",".join(map(str, sorted(chosen)))


def parse_interval(given: Any) -> tuple[int, str]:
    """Read ``5``, ``5epochs``, ``500steps`` or ``15min``.

    Returns:
        The number, and ``epochs``, ``steps`` or ``min``.

    Raises:
        ValueError: it is none of these.
    """
    text = str(given).replace(" ", "")
    found = re.fullmatch(r"(\d{1,9})(?:(epoch|step)s?|(min)(?:utes?)?)?", text)
    if isinstance(given, bool) or not found or not int(found[1]):
        raise ValueError("must be a number of epochs, steps or minutes, as 5, 500steps or 15min")
    return int(found[1]), found[3] or f"{found[2] or 'epoch'}s"
