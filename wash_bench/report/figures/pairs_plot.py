"""The loss barriers between all members of a large population: one heat map a method."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from wash_bench.report import style
from wash_bench.report.figures.curve_styles import styles_in
from wash_bench.report.numbers.segments import barriers

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.colors import Normalize
    from matplotlib.figure import Figure

FEWEST = 5  # members; the lines of fewer pairs are told apart in the figure of the barrier
MOST_COLUMNS = 4
MOST_NUMBERED = 6  # members whose barriers are written into their squares
DECADES = 10.0  # barriers that span more have a logarithmic scale
COLOURS = "Blues"  # white is no barrier


def draw(points: pd.DataFrame, curves: pd.DataFrame) -> Figure | None:
    """The heat maps of an experiment's barrier rows; None below five members.

    Args:
        points: rows of ``Records.barrier``.
        curves: from ``summary.curves``.

    Returns:
        A map a curve: both triangles hold the mean barrier over seeds, in nats.
    """
    if points.empty or curves.empty or points["population"].max() < FEWEST:
        return None
    pairs = barriers(points).merge(curves[["training_id", "curve", "method"]], on="training_id")
    if pairs.empty:
        return None
    styles = styles_in(curves, set(pairs["curve"]))
    names = list(styles)
    maps = {name: matrix(pairs[pairs["curve"] == name]) for name in names}
    columns = min(MOST_COLUMNS, len(names))
    rows = math.ceil(len(names) / columns)
    with style.styled():
        width = min(style.paper().text, max(style.paper().column, 0.9 + 1.6 * columns))
        side = (width - 0.9) / columns
        figure, axes = style.new_figure(0.5 + rows * (side + 0.3), rows, columns, width=width)
        figure.set_layout_engine("compressed")  # squares leave room beside them
        norm = _norm(list(maps.values()))
        panels = [panel for line in axes for panel in line]
        for place, (name, panel) in enumerate(zip(names, panels, strict=False)):
            _panel(panel, maps[name], norm)
            panel.set_title(
                style.wrapped(name, 20), color=styles[name].colour, fontweight="bold", fontsize=7.5
            )
            if place % columns == 0:
                panel.set_ylabel("member")
            if place + columns >= len(names):
                panel.set_xlabel("member")
        for panel in panels[len(names) :]:
            panel.set_visible(False)
        _bar(figure, panels[: len(names)], norm, curves["seed"].nunique())
    return figure


def matrix(pairs: pd.DataFrame) -> np.ndarray:
    """The mean barriers of one curve, (N, N), symmetric; NaN on the diagonal, in nats."""
    import numpy as np

    members = sorted({*pairs["a"], *pairs["b"]}, key=int)
    place = {member: at for at, member in enumerate(members)}
    table = np.full((len(members), len(members)), np.nan)
    for (a, b), rows in pairs.groupby(["a", "b"]):
        table[place[a], place[b]] = table[place[b], place[a]] = rows["barrier"].mean()
    return table


def _norm(maps: list[np.ndarray]) -> Normalize:
    """One scale for all; logarithmic where the barriers span more than a decade."""
    import numpy as np
    from matplotlib.colors import LogNorm, Normalize

    values = np.concatenate([table.ravel() for table in maps])
    positive = values[np.isfinite(values) & (values > 0)]
    if not len(positive):
        return Normalize(0, 1)
    high = float(positive.max())
    low = max(float(positive.min()), high / 1000)
    return LogNorm(low, high) if high > DECADES * low else Normalize(0, high)


def _panel(axes: Axes, table: np.ndarray, norm: Normalize) -> None:
    import numpy as np
    from matplotlib.colors import LogNorm

    visible = table.clip(min=norm.vmin or 0.0) if isinstance(norm, LogNorm) else table
    axes.imshow(visible, norm=norm, cmap=COLOURS, interpolation="nearest")
    axes.grid(visible=False)
    n = len(table)
    ticks = range(0, n, max(1, n // 8))
    axes.set_xticks(ticks, [str(tick) for tick in ticks])
    axes.set_yticks(ticks, [str(tick) for tick in ticks])
    if n > MOST_NUMBERED:
        return
    for row, column in np.argwhere(np.isfinite(table)):
        value = float(table[row, column])
        axes.text(
            column, row, _short(value), ha="center", va="center", fontsize=5.5,
            color="white" if norm(value) > 0.6 else "black",
        )  # fmt: skip


def _short(value: float) -> str:
    """A barrier in four letters at most."""
    if value >= 1:
        return f"{value:.1f}" if value < 10 else f"{value:.0f}"
    return f"{value:.2f}" if value >= 0.005 else "0"


def _bar(figure: Figure, panels: list[Axes], norm: Normalize, seeds: int) -> None:
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import LogNorm

    extend = "min" if isinstance(norm, LogNorm) else "neither"
    bar = figure.colorbar(
        ScalarMappable(norm, COLOURS), ax=panels, pad=0.02, extend=extend, aspect=30
    )
    over = f", mean over {seeds} seeds" if seeds > 1 else ""
    bar.set_label(f"loss barrier (nats){over}")
    bar.outline.set_linewidth(0.5)
