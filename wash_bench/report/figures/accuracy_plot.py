"""What averaging gains: each method's members, the network they average to, and the ensemble."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from wash_bench.known_methods import INDEPENDENT
from wash_bench.metrics import METRICS
from wash_bench.report import style
from wash_bench.report.numbers.pareto import ParetoPoint, inference, sent

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MEMBER, AVERAGE, ENSEMBLE = "#8a8a8a", "#0072B2", "#333333"
DASHED = (0, (4, 2))


def draw(cells: pd.DataFrame) -> Figure | None:
    """Draw a line per method of finished cells, the best average on top; None without any."""
    averages = {each.variant: each for each in sent(cells) if each.model == "one network"}
    others = inference(cells)
    members = {each.variant: each for each in others if each.model == "members"}
    ensembles = [e for e in others if e.model == "ensemble" and e.method == INDEPENDENT]
    if not averages:
        return None
    rows = sorted(averages.values(), key=lambda each: -each.accuracy.mean)
    least = collapse(rows)
    with style.styled():
        figure, ((axes,),) = style.new_figure(
            1.3 + 0.2 * len(rows), 1, 1, width=0.8 * style.paper().text
        )
        inside = [each for each in rows if each.accuracy.mean >= least]
        low, high = style.accuracy_limits([each.accuracy for each in inside])
        for other in (*members.values(), *ensembles[:1]):  # drawn without their intervals
            if other.accuracy.mean >= least:
                low = min(low, other.accuracy.mean - 0.05 * (high - low))
                high = max(high, other.accuracy.mean + 0.05 * (high - low))
        if len(inside) < len(rows):  # room for a number at the edge
            low -= 0.12 * (high - low)
        axes.set_xlim(low, high)
        axes.set_ylim(len(rows) - 0.5, -0.5)
        for row, average in enumerate(rows):
            _line(axes, row, average, members.get(average.variant), low, least)
        if ensembles:
            axes.axvline(
                ensembles[0].accuracy.mean, color=ENSEMBLE, linewidth=0.9, linestyle=DASHED,
                zorder=0,
            )  # fmt: skip
        _sizes(axes, rows)
        axes.set_yticks(range(len(rows)), [style.wrapped(each.variant, 34) for each in rows])
        axes.grid(axis="y", visible=False)
        axes.set_xlabel("test accuracy (%)")
        _legend(figure, bool(members), bool(ensembles), cells["seed"].nunique())
    return figure


def collapse(offers: list[ParetoPoint]) -> float:
    """Return the accuracy below which a network is shown at the edge: half of the best."""
    finite = [each.accuracy.mean for each in offers if math.isfinite(each.accuracy.mean)]
    return max(finite, default=0.0) / 2


def _line(
    axes: Axes, row: int, average: ParetoPoint, member: ParetoPoint | None, low: float, least: float
) -> None:
    """Draw a member's square, the average's dot with its interval, and the way between them."""
    value = average.accuracy
    collapsed = value.mean < least
    if member and member.accuracy.mean >= least:
        axes.plot(member.accuracy.mean, row, "s", color=MEMBER, markersize=4, zorder=2)
        if not collapsed:
            ends = (member.accuracy.mean, value.mean)
            axes.plot(ends, (row, row), color="#c4c4c4", linewidth=1.2, zorder=1)
    if collapsed:
        axes.annotate(
            f"◂ {value.mean:.1f}", (low, row), xytext=(3, 0), textcoords="offset points",
            va="center", fontsize=7, color=AVERAGE,
        )  # fmt: skip
        return
    axes.errorbar(
        value.mean, row, xerr=style.lengths(value) if value.n > 1 else None,
        fmt="o", color=AVERAGE, markersize=5, zorder=3, **style.BARS,
    )  # fmt: skip


def _sizes(axes: Axes, rows: list[ParetoPoint]) -> None:
    """Write at the right edge what a member sends."""
    beside: Any = {"textcoords": "offset points", "fontsize": 7, "annotation_clip": False}
    heading = METRICS["sent_bytes_total"].heading
    axes.annotate(
        heading, (1, 1), xycoords="axes fraction", xytext=(4, 3), va="bottom", color="#666666",
        **beside,
    )  # fmt: skip
    for row, each in enumerate(rows):
        axes.annotate(
            f"{each.cost:.3g}", (1, row), xycoords=axes.get_yaxis_transform(), xytext=(4, 0),
            va="center", color="#333333", **beside,
        )  # fmt: skip


def _legend(figure: Figure, members: bool, ensemble: bool, seeds: int) -> None:
    from matplotlib.lines import Line2D

    handles = [Line2D([], [], linestyle="none", marker="o", color=AVERAGE, label="merged network")]
    if members:
        square = Line2D([], [], linestyle="none", marker="s", color=MEMBER, markersize=4)
        square.set_label("a member")
        handles.insert(0, square)
    if ensemble:
        line = Line2D([], [], color=ENSEMBLE, linewidth=0.9, linestyle=DASHED)
        line.set_label("ensemble of independent networks")
        handles.append(line)
    figure.legend(
        handles=handles,
        loc="outside lower center",
        ncols=len(handles),
        title=style.bars(seeds),
        title_fontsize=7,
    )
