"""One look for all figures: sizes of a paper's text width, Okabe and Ito's colours by method."""

from __future__ import annotations

import hashlib
import logging
import math
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D
    from matplotlib.typing import LineStyleType

WIDTH, COLUMN = 6.75, 3.25  # inches: text and column width of a two-column paper

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
OTHER_MARKERS = ("v", "<", ">", "p", "h", "d", "*")
# The bars of an interval.
BARS: dict[str, Any] = {"elinewidth": 0.8, "capsize": 1.5}
LINES: tuple[LineStyleType, ...] = ("-", (0, (4, 1.5)), (0, (1, 1.2)), (0, (4, 1.2, 1, 1.2)))

_RC: dict[Any, Any] = {
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
    line: LineStyleType
    fill: str

    @property
    def points(self) -> dict[str, Any]:
        """Matplotlib's words for its markers, large enough for a column's width."""
        return {
            "color": self.colour,
            "marker": self.marker,
            "markersize": 3.5,
            "markerfacecolor": self.fill,
        }

    def sample(self, label: str, *, line: bool = True) -> Line2D:
        """A legend's entry, with the line or without."""
        from matplotlib.lines import Line2D

        kind = self.line if line else "none"
        return Line2D([], [], linestyle=kind, label=label, **self.points)


def looks(curves: dict[str, str]) -> dict[str, Look]:
    """The look of each curve, coloured by its method; curves of one colour differ in line style."""
    used: dict[str, int] = {}
    result = {}
    for curve, method in curves.items():
        colour = COLOURS.get(method)
        # The name alone decides, so that a method keeps its colour across reports.
        digest = hashlib.blake2b(method.encode(), digest_size=2).digest()
        marker = MARKERS.get(method) or OTHER_MARKERS[digest[1] % len(OTHER_MARKERS)]
        if colour is None:
            colour = OTHERS[int.from_bytes(digest, "little") % len(OTHERS)]
        place = used[colour] = used.get(colour, -1) + 1
        line, fill = LINES[place % len(LINES)], "white" if place % 2 else colour
        result[curve] = Look(colour, marker, line, fill)
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


def blank(height: float, width: float = WIDTH) -> Figure:
    """An empty figure, in inches; no window system and no global state."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def new_figure(
    height: float, rows: int, columns: int, *, width: float = WIDTH, sharex: bool = False
) -> tuple[Figure, list[list[Axes]]]:
    """A figure with a grid of panels, of the text's width unless told otherwise."""
    figure = blank(height, width)
    axes = figure.subplots(rows, columns, squeeze=False, sharex=sharex)
    return figure, axes.tolist()


def wrapped(text: str, width: int) -> str:
    """A long title, broken where it can be: panels are narrow."""
    return "\n".join(textwrap.wrap(text, width, break_on_hyphens=False))


def bars(*seeds: int) -> str:
    """What the bars of a figure are, where its values are over so many seeds."""
    if max(seeds, default=0) < 2:
        return "one seed"
    return f"bars: 95 % Student-t intervals over {' or '.join(map(str, seeds))} seeds"


def accuracy_limits(means: Sequence[float], halves: Sequence[float]) -> tuple[float, float]:
    """Ends of an axis in per cent: around all means, and around intervals as far as they fit."""
    low, high = min(means), max(means)
    room = max(0.5, 0.5 * (high - low))  # few seeds have intervals far longer than this
    pairs = list(zip(means, halves, strict=True))
    bottom = max(low - room, min(mean - half for mean, half in pairs), min(0.0, low))
    top = min(high + room, max(mean + half for mean, half in pairs), max(100.0, high))
    margin = 0.07 * max(top - bottom, 0.2)
    return bottom - margin, top + margin


def nice_ticks(low: float, high: float) -> list[float]:
    """Round numbers (1, 2, 5 times a power of ten) on a logarithmic axis from low to high."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    ticks = [float(f"{digit}e{power}") for power in powers for digit in (1, 2, 5)]
    ticks = [tick for tick in ticks if low <= tick <= high]
    decades = [tick for tick in ticks if f"{tick:e}".startswith("1.0")]
    return decades if len(decades) > 3 else ticks


def save(figure: Figure, path: Path) -> None:
    """PNG or SVG by the name's ending; without the date, so equal input gives an equal file."""
    form = path.suffix.lstrip(".")
    metadata = {"Date": None} if form == "svg" else {"Software": None}
    figure.savefig(path, format=form, metadata=metadata)
    figure.set_layout_engine("none")  # what is laid out stays so in the figure's other files
