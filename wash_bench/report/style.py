"""One look for all figures: sizes of a paper's text width, Okabe and Ito's colours by method."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH = 6.9  # inches: the text width of a two-column paper

# Okabe & Ito, "Color Universal Design" (2008): told apart under the common colour blindnesses.
COLOURS = {
    "wash": "#0072B2",
    "wash-opt": "#56B4E9",
    "papa": "#D55E00",
    "dart": "#009E73",
    "greedy-soup": "#CC79A7",
    "naive-ensemble": "#333333",
}
OTHERS = ("#E69F00", "#882255", "#999933", "#332288", "#AA4499", "#117733")
MARKERS = {
    "wash": "o",
    "wash-opt": "s",
    "papa": "^",
    "dart": "D",
    "greedy-soup": "P",
    "naive-ensemble": "X",
}
LINES = ("-", (0, (4, 1.5)), (0, (1, 1.2)), (0, (4, 1.2, 1, 1.2)))

_RC = {
    "font.family": "DejaVu Sans",  # comes with matplotlib: the same on every machine
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.labelsize": 8,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "legend.fontsize": 7.5,
    "legend.frameon": False,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e3e3e3",
    "grid.linewidth": 0.5,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "lines.linewidth": 1.4,
    "savefig.dpi": 200,
    "svg.hashsalt": "wash-bench",  # element ids, and with them the file, are the same each time
}


@dataclass(frozen=True)
class Look:
    """How one curve is drawn, the same in every panel."""

    colour: str
    marker: str
    line: str | tuple
    fill: str


def looks(curves: dict[str, str]) -> dict[str, Look]:
    """The look of each curve.

    Args:
        curves: the method that gives each curve its colour. Curves that would have the same
            colour get different line styles.
    """
    used: dict[str, int] = {}
    result = {}
    for curve, method in curves.items():
        colour = COLOURS.get(method)
        if colour is None:
            # The name alone decides, so that a method keeps its colour across reports.
            digest = hashlib.blake2b(method.encode(), digest_size=2).digest()
            colour = OTHERS[int.from_bytes(digest, "little") % len(OTHERS)]
        place = used[colour] = used.get(colour, -1) + 1
        line, fill = LINES[place % len(LINES)], "white" if place % 2 else colour
        result[curve] = Look(colour, MARKERS.get(method, "v"), line, fill)
    return result


@contextmanager
def styled() -> Iterator[None]:
    """Matplotlib with this style, whatever the user's own settings are."""
    # Word of a font cache being built, or of a home that cannot be written, is no user's concern.
    logging.getLogger("matplotlib").setLevel(logging.ERROR)
    import matplotlib

    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_RC)
        yield


def new_figure(height: float, rows: int, columns: int, **kwargs) -> tuple[Figure, list[list[Axes]]]:
    """A figure of the text width with a grid of panels; no window system and no global state."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False, **kwargs)
    return figure, axes


def save(figure: Figure, path: Path) -> None:
    """PNG or SVG by the name's ending; without the date, so equal input gives an equal file."""
    form = path.suffix.lstrip(".")
    metadata = {"Date": None} if form == "svg" else {"Software": None}
    figure.savefig(path, format=form, metadata=metadata)
