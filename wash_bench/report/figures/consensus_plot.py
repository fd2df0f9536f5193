"""Distance to consensus: of all weights over training, and within each parameter tensor."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from wash_bench.metrics import METRICS
from wash_bench.report import style
from wash_bench.report.figures import training_plot
from wash_bench.report.figures.curve_styles import CurveStyle, styles_in

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.gridspec import GridSpecBase

LAYER = "consensus_layer/"
MOST_COLUMNS = 3
DECADES = 4  # of the colour scale; what lies below has its lowest colour


def layers(events: pd.DataFrame, curves: pd.DataFrame) -> pd.DataFrame:
    """Distances within each tensor, over training.

    Args:
        events: rows of the experiment's trainings.
        curves: from ``summary.curves``.

    Returns:
        A row a curve, tensor and epoch: curve, place (of the tensor, from the input), layer (its
        name), epoch, value (L2 distance, mean over members and seeds), share (value over the
        tensor's largest, so that large and small tensors compare).
    """
    rows = events[events["metric"].str.startswith(LAYER)].merge(
        curves[["training_id", "curve"]], on="training_id"
    )
    rows["layer"] = rows["metric"].str.removeprefix(LAYER)
    places = {name: place for place, name in enumerate(dict.fromkeys(rows["layer"]))}
    rows["place"] = rows["layer"].map(places)
    keys = ["curve", "place", "layer", "epoch"]
    table = rows.groupby(keys)["value"].mean().reset_index()
    largest = table["value"].where(table["value"] < math.inf).groupby(table["place"])
    table["share"] = table["value"] / largest.transform("max")
    return table


def draw(events: pd.DataFrame, curves: pd.DataFrame) -> Figure | None:
    """The consensus figure of an experiment's events; None if no distance was recorded."""
    if events.empty or curves.empty:
        return None
    total = events[events["metric"] == "consensus_distance"].merge(
        curves[["training_id", "curve"]], on="training_id"
    )
    parts = layers(events, curves)
    if total.empty and parts.empty:
        return None
    in_parts = set(parts["curve"])
    styles = styles_in(curves, {*total["curve"], *in_parts})
    visible = [name for name in styles if name in in_parts]
    columns = min(MOST_COLUMNS, len(visible))
    rows = math.ceil(len(visible) / columns) if visible else 0
    with style.styled():
        figure = style.blank(2.6 + 1.25 * rows)
        grid = figure.add_gridspec(
            1 + bool(rows), 1, height_ratios=[1.8, 1.25 * rows][: 1 + bool(rows)]
        )
        top = grid[0].subgridspec(1, 2 if visible else 1)
        _total(figure.add_subplot(top[0]), total, styles)
        if visible:
            _profile(figure.add_subplot(top[1]), parts, styles)
            _maps(figure, grid[1].subgridspec(rows, columns), parts, visible, styles)
        training_plot.draw_legend(figure, styles, curves)
    return figure


def _total(axes: Axes, total: pd.DataFrame, styles: dict[str, CurveStyle]) -> None:
    axes.set_ylabel(METRICS["consensus_distance"].titled)
    axes.set_xlabel("epoch")
    axes.locator_params(axis="x", integer=True)
    training_plot.draw_lines(axes, total, styles, "log", "consensus_distance")
    style.headline(axes, "all weights", "0: lower edge" if (total["value"] <= 0).any() else "")
    if total["epoch"].nunique() == 1:
        axes.set_xlim(0, 2 * float(total["epoch"].max()))


def _profile(axes: Axes, parts: pd.DataFrame, styles: dict[str, CurveStyle]) -> None:
    """The last epoch, tensor by tensor."""
    axes.set_title("each tensor at the end, of its largest", loc="left", fontweight="bold")
    axes.set_xlabel("tensor, from the input to the output")
    last = parts[parts["epoch"] == parts.groupby("curve")["epoch"].transform("max")]
    low, high = _limits(last["share"])
    for name, look in styles.items():
        own = last[last["curve"] == name]
        axes.plot(
            own["place"] + 1,
            own["share"].clip(lower=low),
            color=look.colour,
            linestyle=look.line,
            linewidth=1.1,
            marker=look.marker,
            markersize=2.5,
            markevery=max(1, len(own) // 12),
            markerfacecolor=look.fill,
        )
    axes.set_yscale("log")
    axes.set_ylim(low, high * 1.6)
    axes.locator_params(axis="x", integer=True)


def _maps(
    figure: Figure,
    grid: GridSpecBase,
    parts: pd.DataFrame,
    visible: list[str],
    styles: dict[str, CurveStyle],
) -> None:
    """Tensors over epochs, one map a curve and one scale for all."""
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import LogNorm

    low, high = _limits(parts["share"])
    norm = LogNorm(low, high)
    panels: list[Axes] = []
    for place, name in enumerate(visible):
        row, column = divmod(place, grid.ncols)
        axes = figure.add_subplot(
            grid[row, column], sharex=panels[0] if panels else None,
            sharey=panels[0] if panels else None,
        )  # fmt: skip
        table = parts[parts["curve"] == name].pivot(index="place", columns="epoch", values="share")
        epochs = table.columns.to_numpy(float)
        axes.pcolormesh(
            _edges(epochs),
            _edges(table.index.to_numpy(float) + 1),
            table.to_numpy(float).clip(min=low),
            norm=norm,
            cmap="cividis",
            rasterized=True,
        )
        axes.grid(visible=False)
        axes.set_title(style.wrapped(name, 28), color=styles[name].colour, fontweight="bold")
        lowest = row == grid.nrows - 1
        axes.tick_params(labelbottom=lowest, labelleft=column == 0)
        if lowest:
            axes.set_xlabel("epoch")
        if column == 0:
            axes.set_ylabel("tensor")
        axes.locator_params(integer=True)
        panels.append(axes)
    panels[0].set_ylim(float(parts["place"].max()) + 1.5, 0.5)  # the input above
    rows = math.ceil(len(visible) / grid.ncols)
    bar = figure.colorbar(
        ScalarMappable(norm, "cividis"), ax=panels, pad=0.02, aspect=14 * rows, extend="min",
        extendfrac=0.02,
    )  # fmt: skip
    bar.set_label("distance, as a share of the\ntensor's largest in any map")
    bar.outline.set_linewidth(0.5)


def _limits(values: pd.Series) -> tuple[float, float]:
    """Ends of a logarithmic scale; zeros, and what is nearly zero, lie on its lower one."""
    positive = values[(values > 0) & (values < math.inf)]
    if positive.empty:
        return 0.1, 1.0
    high = float(positive.max())
    low = max(float(positive.min()), high / 10**DECADES)
    return (low, high) if low < high else (high / 2, high)


def _edges(centres: np.ndarray) -> np.ndarray:
    """The borders of cells around ascending centres."""
    import numpy as np

    if len(centres) == 1:
        return np.array([centres[0] - 0.5, centres[0] + 0.5])
    middle = (centres[1:] + centres[:-1]) / 2
    first, last = centres[0] - (middle[0] - centres[0]), centres[-1] + (centres[-1] - middle[-1])
    return np.concatenate([[first], middle, [last]])
