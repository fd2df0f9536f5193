"""Figures inside the page: as data addresses, all at one scale, so that their letters are alike."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from wash_bench.report.figures.catalogue import FIGURES

MOST_SVG = 1_500_000  # bytes; a larger drawing is shown as its PNG
SCALE = 140  # pixels of the page an inch of a figure
_KINDS = {".svg": "image/svg+xml", ".png": "image/png"}
_SVG_WIDTH = re.compile(rb'<svg[^>]*? width="([0-9.]+)pt"')


@dataclass(frozen=True)
class Picture:
    """A figure as the page shows it.

    Attributes:
        name: of its file, without the ending.
        text: what it shows.
        data: its address, with all of its bytes.
        width: pixels; on narrower windows it shrinks.
    """

    name: str
    text: str
    data: str
    width: int


def pictures(figures: Iterable[Path]) -> dict[str, Picture]:
    """The figures by name, as SVG where that is of moderate size, else as PNG."""
    found: dict[str, Path] = {}
    for path in figures:
        vector = path.suffix == ".svg" and path.stat().st_size <= MOST_SVG
        if vector or (path.suffix == ".png" and path.stem not in found):
            found[path.stem] = path
    return {name: _picture(path) for name, path in found.items()}


def _picture(path: Path) -> Picture:
    content = path.read_bytes()
    return Picture(
        name=path.stem,
        text=FIGURES[path.stem.split("-")[0]].text,
        data=f"data:{_KINDS[path.suffix]};base64,{base64.b64encode(content).decode('ascii')}",
        width=round(SCALE * _inches(path, content)),
    )


def _inches(path: Path, content: bytes) -> float:
    """The width that a figure was drawn for."""
    if path.suffix == ".svg":
        found = _SVG_WIDTH.search(content)
        if found is None:
            raise ValueError(f"{path} has no width in points")
        return float(found.group(1)) / 72
    from PIL import Image

    with Image.open(path) as image:
        return image.width / image.info["dpi"][0]
