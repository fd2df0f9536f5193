"""Loss and accuracy along the segments between members: one column of panels a method."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from wash_bench.report import style
from wash_bench.report.figures.curve_styles import CurveStyle, styles_in
from wash_bench.report.numbers.segments import barriers

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.typing import LineStyleType

MOST_COLUMNS = 5
SOLID: LineStyleType = "-"
DASHED: LineStyleType = (0, (3, 1.5))


def draw(points: pd.DataFrame, curves: pd.DataFrame) -> Figure | None:
    """The barrier figure of an experiment's rows; None if no pair of members was measured."""
    if points.empty or curves.empty:
        return None
    pairs = points[points["kind"] == "pair"].merge(
        curves[["training_id", "curve", "method"]], on="training_id"
    )
    if pairs.empty:
        return None
    styles = styles_in(curves, set(pairs["curve"]))
    blocks = math.ceil(len(styles) / MOST_COLUMNS)
    columns = math.ceil(len(styles) / blocks)
    with style.styled():
        figure, axes = style.new_figure(2.9 * blocks + 0.3, 2 * blocks, columns, sharex=True)
        for place, name in enumerate(styles):
            block, column = divmod(place, columns)
            loss, accuracy = axes[2 * block][column], axes[2 * block + 1][column]
            own = pairs[pairs["curve"] == name]
            _panel(loss, own, "loss", styles[name])
            _panel(accuracy, own, "accuracy", styles[name])
            loss.set_title(
                style.wrapped(name, 17), color=styles[name].colour, fontweight="bold", pad=13
            )
            barrier = _barrier(own)
            loss.annotate(
                f"barrier {barrier:.3f} nats" if math.isfinite(barrier) else "barrier not finite",
                (0.5, 1),
                xytext=(0, 3),
                xycoords="axes fraction",
                textcoords="offset points",
                ha="center",
                fontsize=7,
                color="#444444",
            )
        _finish(axes, len(styles), columns, pairs)
        _legend(figure, pairs)
    return figure


def _panel(axes: Axes, rows: pd.DataFrame, value: str, look: CurveStyle) -> None:
    for bn, line in (("averaged", SOLID), ("reestimated", DASHED)):
        variant = rows[rows["bn"] == bn]
        if variant.empty:
            continue
        if bn == "averaged":
            _each(axes, variant, value, look)
        mean = variant.groupby("alpha")[value].mean()
        axes.plot(mean.index, mean, color=look.colour, linestyle=line, linewidth=1.7)
        ends = mean.loc[[mean.index.min(), mean.index.max()]]
        axes.plot(
            ends.index,
            ends,
            linestyle="none",
            marker="o",
            markersize=4,
            color=look.colour,
            markerfacecolor=look.colour if bn == "averaged" else "white",
            clip_on=False,
            zorder=3,
        )


def _each(axes: Axes, rows: pd.DataFrame, value: str, look: CurveStyle) -> None:
    """A thin line a segment, all in one artist: of many seeds there are hundreds."""
    from matplotlib.collections import LineCollection

    lines = [points for _, points in _segments(rows, value)]
    thin: dict[str, Any] = {"color": look.colour, "alpha": 0.25, "linewidth": 0.6}
    axes.add_collection(LineCollection(lines, capstyle="projecting", joinstyle="round", **thin))


def _segments(rows: pd.DataFrame, value: str) -> list[tuple[str, np.ndarray]]:
    """Of each segment its training, and (points, 2) alpha and value, from the first member on."""
    import numpy as np

    ordered = rows.sort_values("alpha", kind="stable")
    # Cut up as one array: pandas would take most of a figure's time for it.
    number = ordered.groupby(["training_id", "a", "b"], sort=False).ngroup().to_numpy()
    order = np.argsort(number, kind="stable")
    ends = np.flatnonzero(np.diff(number[order])) + 1
    points = ordered[["alpha", value]].to_numpy(float)[order]
    first = order[np.concatenate([[0], ends])]
    trainings = ordered["training_id"].to_numpy()[first].tolist()
    return list(zip(trainings, np.split(points, ends), strict=True))


def _barrier(rows: pd.DataFrame) -> float:
    """Mean over seeds of the greatest rise above the line between the ends (BN averaged)."""
    tops = (
        barriers(rows)
        .groupby("training_id", sort=False)["barrier"]
        .agg(lambda own: own.max(skipna=False))
    )
    return float(tops.mean(skipna=False)) if len(tops) else math.nan


def _finish(axes: list[list[Axes]], count: int, columns: int, pairs: pd.DataFrame) -> None:
    """Equal scales in all panels of a kind, so that heights compare; labels at the edges."""
    limits = {0: _limits(pairs["loss"], floor=0.0), 1: _limits(pairs["accuracy"])}
    last = count - (count - 1) // columns * columns  # panels of the last row
    middle = axes[-1][(last - 1) // 2]
    middle.set_xlabel("interpolation between two members", x=0.5 if last % 2 else 1.05)
    for row, line in enumerate(axes):
        for column, panel in enumerate(line):
            place = row // 2 * columns + column
            if place >= count:
                panel.set_visible(False)
                continue
            panel.set_ylim(*limits[row % 2])
            panel.set_xlim(0, 1)
            panel.set_xticks([0, 0.5, 1], ["0", "0.5", "1"])
            lowest = row % 2 == 1 and place + columns >= count
            panel.tick_params(labelleft=column == 0, labelbottom=lowest)
            if column == 0:
                panel.set_ylabel("loss (nats)" if row % 2 == 0 else "accuracy (%)")


def _limits(values: pd.Series, floor: float | None = None) -> tuple[float, float]:
    finite = values[values.abs() < math.inf].dropna()
    low, high = (finite.min(), finite.max()) if len(finite) else (0.0, 1.0)
    margin = 0.06 * (high - low) or 0.5
    return (low - margin if floor is None else min(floor, low)), high + margin


def _legend(figure: Figure, pairs: pd.DataFrame) -> None:
    from matplotlib.lines import Line2D

    grey: dict[str, Any] = {"color": "#555555"}
    seeds = pairs["training_id"].nunique() / pairs["curve"].nunique()
    present = set(pairs["bn"])
    again = "reestimated" in present  # not so for a network without BatchNorm
    ends = "members (open: re-estimated)" if again else "members"
    mean = "mean, BN averaged" if again else "mean"
    handles = [
        Line2D([], [], linestyle=SOLID, linewidth=1.7, **grey, label=mean),
        Line2D([], [], linestyle=DASHED, linewidth=1.7, **grey, label="mean, BN re-estimated"),
        Line2D(
            [],
            [],
            linewidth=0.8,
            alpha=0.4,
            **grey,
            label="each pair" if seeds <= 1 else "each pair and seed",
        ),
        Line2D([], [], linestyle="none", marker="o", markersize=4, **grey, label=ends),
    ]
    if not again:
        handles.pop(1)
    figure.legend(
        handles=handles,
        loc="outside lower center",
        ncols=len(handles),
        columnspacing=1.4,
        handlelength=2.2,
    )
