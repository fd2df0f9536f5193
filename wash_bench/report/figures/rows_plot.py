"""A table as a figure: each line's accuracies with their intervals.

N, augmentation and network have panels of their own. A population whose average failed stands
many points below all others; on one axis it would press the rest into a corner. Such values stand
at the left edge with their number.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from wash_bench.metrics import METRICS
from wash_bench.report import style
from wash_bench.report.figures.ablation_plot import QUANTITIES
from wash_bench.report.figures.curve_styles import CurveStyle
from wash_bench.report.numbers.stats import Estimate

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from wash_bench.report.tables.study import StudyTable

STYLES = QUANTITIES | {"greedy_acc": CurveStyle("#CC79A7", "P", "-", "#CC79A7")}
"""How metrics are drawn."""
GUTTER = 0.13
"""Room for one value below the axis, as a share of the axis."""
SPAN = 12.0
"""Percentage points below the best value that the axis shows."""


def draw(table: StudyTable) -> Figure | None:
    """The figure of a table; None where no line has an accuracy."""
    visible = [metric for metric in STYLES if metric in table.study.file.metrics]
    panels: dict[tuple[int, str, str, str], list[int]] = {}
    for place, line in enumerate(table.lines):
        if any(table.ours(place, metric).n for metric in visible):
            training = line.resolved.config.training
            key = (line.population, line.augment, training.dataset, training.model)
            panels.setdefault(key, []).append(place)
    if not panels:
        return None
    columns = min(2, len(panels))
    grid = math.ceil(len(panels) / columns)
    longest = max(map(len, panels.values()))
    width = style.paper().column if columns == 1 else style.paper().text
    with style.styled():
        height = 0.95 + grid * (0.45 + 0.17 * longest)
        figure, axes = style.new_figure(height, grid, columns, width=width)
        flat = [panel for line in axes for panel in line]
        several = len({key[2:] for key in panels}) > 1
        below = False
        for axis, ((n, augment, _, model), places) in zip(flat, panels.items(), strict=False):
            below |= _panel(axis, table, places, visible)
            title = f"N = {n}, {model}" if several else f"N = {n}, {augment}"
            axis.set_title(title, fontweight="bold", loc="left")
        for axis in flat[len(panels) :]:
            axis.set_visible(False)
        _legend(figure, table, visible, below)
    return figure


def _panel(axes: Axes, table: StudyTable, places: list[int], visible: list[str]) -> bool:
    """Draw the lines of one panel; whether a value stands below its axis."""
    from matplotlib.ticker import MaxNLocator

    found = [table.ours(place, metric) for place in places for metric in visible]
    means = [value.mean for value in found if value.n]
    remaining = [value for value in found if value.n and value.mean >= max(means) - SPAN]
    low, high = style.accuracy_limits(remaining)
    low = max(low, max(means) - 1.25 * SPAN)
    below: dict[int, list[tuple[str, Estimate]]] = {}
    for order, metric in enumerate(visible):
        # One quantity a little above another, or the bars hide each other.
        aside = (order - (len(visible) - 1) / 2) * 0.16
        for row, place in enumerate(places):
            value = table.ours(place, metric)
            if value.n and value.mean < low:
                below.setdefault(row, []).append((metric, value))
            elif value.n:
                _point(axes, value, metric, row + aside, low)
    most = max(map(len, below.values()), default=0)
    room = GUTTER * (high - low) / (1 - GUTTER * most)  # a share of the axis with its margin
    edge = low - room * most
    for row, values in below.items():
        for order, (metric, value) in enumerate(values):
            axes.text(edge + (order + 0.1) * room, row, f"◂ {value.mean:.0f}", fontsize=6.5,
                      color=STYLES[metric].colour, va="center")  # fmt: skip
    if below:
        axes.axvline(low, color="#999999", linewidth=0.6, linestyle=(0, (1, 2)))
    ticks = MaxNLocator(nbins=5 if most < 2 else 4).tick_values(low, high)
    axes.set_xticks([tick for tick in ticks if low <= tick <= high])
    axes.set_xlim(edge, high)
    axes.set_ylim(len(places) - 0.5, -0.5)
    axes.set_yticks(range(len(places)), [table.lines[place].row.label for place in places])
    axes.set_xlabel("test accuracy (%)")
    axes.grid(axis="y", visible=False)
    return bool(below)


def _point(axes: Axes, value: Estimate, metric: str, height: float, low: float) -> None:
    below, above = value.bar(style.PERCENT)
    axes.errorbar(
        value.mean,
        height,
        xerr=[[min(below, value.mean - low)], [above]],  # not into the space for values below
        linestyle="none",
        **STYLES[metric].points,
        **style.BARS,
    )


def _legend(figure: Figure, table: StudyTable, visible: list[str], below: bool) -> None:
    narrow = figure.get_figwidth() < style.paper().text
    title = style.bars(len({record["seed"] for record in table.records}))
    if below:
        title += ("\n" if narrow else "; ") + "◂ a value below the axis"
    figure.legend(
        handles=[STYLES[metric].sample(METRICS[metric].drawn, line=False) for metric in visible],
        loc="outside lower center",
        ncols=2 if narrow else 4,
        title=title,
        title_fontsize=7,
    )
