"""One style for all figures: widths and fonts of what they are made for, axes, titles, files."""

from __future__ import annotations

import logging
import math
import os
import re
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wash_bench.errors import UsageError, nearest

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from wash_bench.report.numbers.stats import Estimate


@dataclass(frozen=True)
class Paper:
    """What figures and tables are made for.

    Attributes:
        text: width of the text, in inches.
        column: width of a column; of a paper with one, half the text.
        font: of figures; both fonts come with matplotlib, so that they are the same everywhere.
        table: LaTeX's environment of a table as wide as the text.
        table_width: of LaTeX's tables, in points.
    """

    text: float
    column: float
    font: str
    table: str
    table_width: float


PAPERS = {  # widths as the styles' own files set them (neurips.sty, icml.sty, IEEEtran.cls)
    "plain": Paper(6.75, 3.25, "DejaVu Sans", "table*", 345.0),  # of LaTeX's own classes
    "neurips": Paper(5.5, 2.7, "STIXGeneral", "table", 397.0),
    "icml": Paper(6.75, 3.25, "STIXGeneral", "table*", 487.0),
    "ieee": Paper(7.16, 3.5, "STIXGeneral", "table*", 516.0),
}
_PAPER = ContextVar("paper", default="plain")


def paper() -> Paper:
    """What is drawn and written for now."""
    return PAPERS[_PAPER.get()]


def check_paper(name: str) -> str:
    """The name of one of ``PAPERS`` as it is; a UsageError, with the nearest, if it is none."""
    if name not in PAPERS:
        raise UsageError(f"--style {name}: {nearest(name, PAPERS)}")
    return name


@contextmanager
def made_for(name: str) -> Iterator[None]:
    """Figures and tables of this context are for one of ``PAPERS``."""
    token = _PAPER.set(name)
    try:
        yield
    finally:
        _PAPER.reset(token)


PERCENT = (0.0, 100.0)  # where accuracies end, and their bars
# The bars of an interval.
BARS: dict[str, Any] = {"elinewidth": 0.8, "capsize": 1.5}

_RC: dict[Any, Any] = {
    "mathtext.fontset": "dejavusans",
    "pdf.fonttype": 42,  # TrueType, as publishers want it
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


def imported_matplotlib() -> Any:
    """Import matplotlib, whatever backend MPLBACKEND names; figures here are drawn without one."""
    # Notebooks hand theirs to all their children, which may not have it: the import would fail.
    given = os.environ.pop("MPLBACKEND", None)
    try:
        import matplotlib
    finally:
        if given is not None:
            os.environ["MPLBACKEND"] = given
    return matplotlib


@contextmanager
def styled() -> Iterator[None]:
    """Matplotlib with this style, whatever the user's own settings are."""
    # Word of a font cache being built, or of a home that cannot be written, is no user's concern.
    logging.getLogger("matplotlib").setLevel(logging.ERROR)
    matplotlib = imported_matplotlib()
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_RC)
        matplotlib.rcParams["font.family"] = paper().font
        yield


def note_letters() -> int:
    """Letters of a note that fit over half the text's width."""
    return int(8 * paper().text)


def blank(height: float, width: float | None = None) -> Figure:
    """An empty figure, in inches, of the text's width unless told otherwise."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width or paper().text, height), layout="constrained")


def new_figure(
    height: float, rows: int, columns: int, *, width: float | None = None, sharex: bool = False
) -> tuple[Figure, list[list[Axes]]]:
    """A figure with a grid of panels, of the text's width unless told otherwise."""
    figure = blank(height, width)
    axes = figure.subplots(rows, columns, squeeze=False, sharex=sharex)
    return figure, axes.tolist()


def wrapped(text: str, width: int) -> str:
    """A long title, broken where it can be (after blanks and ``,=+``): panels are narrow."""
    lines = [""]
    for piece in re.findall(r"[^ ,=+]*[ ,=+]*", text):
        if lines[-1] and len(lines[-1]) + len(piece.rstrip()) > width:
            lines.append("")
        lines[-1] += piece
        while len(lines[-1].rstrip()) > width:
            lines[-1:] = [lines[-1][:width], lines[-1][width:]]
    return "\n".join(line.strip() for line in lines)


def headline(axes: Axes, title: str, *notes: str) -> None:
    """A bold title at the left, and under it, in lines of their own, what is to be said of it."""
    lines = [line for note in notes if note for line in textwrap.wrap(note, note_letters())]
    axes.set_title(title, loc="left", fontweight="bold", pad=4 + 9 * len(lines))
    for place, line in enumerate(reversed(lines)):  # one by one: fonts differ in their line height
        axes.annotate(
            line,
            (0, 1),
            xytext=(0, 3 + 9 * place),
            xycoords="axes fraction",
            textcoords="offset points",
            va="bottom",
            fontsize=7,
            color="#666666",
        )


def bars(*seeds: int) -> str:
    """What the bars of a figure are, where its values are over so many seeds."""
    if max(seeds, default=0) < 2:
        return "one seed"
    if max(seeds) == 2:
        return "bars: range of 2 seeds"
    return f"bars: 95 % Student-t intervals over {' or '.join(map(str, seeds))} seeds"


def accuracy_limits(values: Sequence[Estimate]) -> tuple[float, float]:
    """Ends of an axis in per cent: around all finite means and their bars, with a margin."""
    bars = [(v.mean, *v.bar(PERCENT)) for v in values if math.isfinite(v.mean)]
    low = min(mean - below for mean, below, _ in bars)
    high = max(mean + above for mean, _, above in bars)
    margin = 0.07 * max(high - low, 0.2)
    return low - margin, high + margin


def lengths(value: Estimate) -> list[list[float]]:
    """An accuracy's bar as matplotlib takes it: (2, 1), what is below and what is above."""
    below, above = value.bar(PERCENT)
    return [[below], [above]]


def nice_ticks(low: float, high: float) -> list[float]:
    """Round numbers (1, 2, 5 times a power of ten) on a logarithmic axis from low to high."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    ticks = [float(f"{digit}e{power}") for power in powers for digit in (1, 2, 5)]
    ticks = [tick for tick in ticks if low <= tick <= high]
    decades = [tick for tick in ticks if f"{tick:e}".startswith("1.0")]
    return decades if len(decades) > 3 else ticks


def save(figure: Figure, path: Path) -> None:
    """PNG, SVG or PDF by the name's ending; without the date: equal input gives an equal file."""
    form = path.suffix.lstrip(".")
    metadata = {"svg": {"Date": None}, "png": {"Software": None}, "pdf": {"CreationDate": None}}
    if engine := figure.get_layout_engine():
        # What is laid out stays so in the figure's other files. Here and not by savefig, which
        # would draw the figure for that, and once more for every file.
        figure.set_dpi(_RC["savefig.dpi"])
        engine.execute(figure)
        figure.set_layout_engine(None)
    figure.savefig(path, format=form, metadata=metadata[form])
