"""Loss and accuracy over the triangle that three members span: one column of maps a method."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from wash_bench.report import style
from wash_bench.report.figures.curve_styles import styles_in
from wash_bench.report.numbers.segments import CORNERS, HEIGHT, STATISTICS, Map, maps, on_grid

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.colors import Normalize
    from matplotlib.figure import Figure
    from matplotlib.patches import Polygon
    from matplotlib.tri import Triangulation

MOST_COLUMNS = 5
# Bright is good in both; "cividis" reads the same for colour-blind eyes.
QUANTITIES = {"loss": ("loss (nats)", "cividis_r"), "accuracy": ("accuracy (%)", "cividis")}

MARK: dict[str, Any] = {"markeredgecolor": "black", "markerfacecolor": "white"}


def draw(points: pd.DataFrame, curves: pd.DataFrame) -> Figure | None:
    """The simplex figure of an experiment's rows; None if no triangle was measured."""
    found = maps(points, curves)
    if not found:
        return None
    styles = styles_in(curves, {one.curve for one in found})
    names = list(styles)
    kinds = [bn for bn in STATISTICS if any(one.bn == bn for one in found)]
    blocks = math.ceil(len(names) / MOST_COLUMNS)
    columns = math.ceil(len(names) / blocks)
    each = {(one.curve, one.bn): one for one in found}
    with style.styled():
        width = min(style.paper().text, max(style.paper().column, 0.9 + 1.25 * columns))
        rows = 2 * len(kinds) * blocks
        side = (width - 0.9) / columns
        figure, axes = style.new_figure(
            0.5 + rows * (side * HEIGHT + 0.24), rows, columns, width=width
        )
        row = 0
        for quantity, (label, colours) in QUANTITIES.items():
            norm = _norm(found, quantity)
            lines = []
            for bn in kinds:
                for block in range(blocks):
                    line = axes[row]
                    visible = names[block * columns : (block + 1) * columns]
                    for place, panel in enumerate(line):
                        one = each.get((visible[place], bn)) if place < len(visible) else None
                        _panel(panel, one, quantity, norm, colours)
                        if place < len(visible) and (row == 0 or blocks > 1):
                            colour = styles[visible[place]].colour
                            panel.set_title(style.wrapped(visible[place], 17), color=colour,
                                            fontweight="bold", pad=9)  # fmt: skip
                    text = STATISTICS[bn] if len(kinds) > 1 else ""
                    line[0].set_ylabel(text, fontsize=7, labelpad=6)
                    lines += list(line)
                    row += 1
            _bar(figure, lines, norm, colours, label)
        _legend(figure, found)
    return figure


def _norm(found: list[Map], quantity: str) -> Normalize:
    """One scale for all maps of a quantity; logarithmic for a loss that spans a lot."""
    import numpy as np
    from matplotlib.colors import LogNorm, Normalize

    values = np.concatenate([one.points[quantity].to_numpy(float) for one in found])
    values = values[np.isfinite(values)]
    low, high = (values.min(), values.max()) if len(values) else (0.0, 1.0)
    if high <= low:
        low, high = low - 0.5, high + 0.5
    if quantity == "loss" and low > 0 and high / low > 6:
        return LogNorm(low, high)
    return Normalize(low, high)


def _levels(norm: Normalize) -> np.ndarray:
    import numpy as np

    levels = np.asarray(norm.inverse(np.linspace(0, 1, 21)), float)
    levels[0], levels[-1] = norm.vmin, norm.vmax  # the inverse may lose a last digit
    return levels


def _panel(axes: Axes, one: Map | None, quantity: str, norm: Normalize, colours: str) -> None:
    import numpy as np
    from matplotlib.tri import Triangulation

    for edge in axes.spines.values():
        edge.set_visible(False)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.grid(visible=False)
    axes.set_aspect("equal")
    if one is None:
        axes.set_visible(False)
        return
    points = one.points
    # The average between the grid's points would add triangles that are nearly flat.
    grid = points[on_grid(points)]
    values = grid[quantity].to_numpy(float)
    mesh = Triangulation(grid["x"], grid["y"])
    broken = ~np.isfinite(grid["loss"].to_numpy(float))  # its accuracy means nothing
    mask = broken[mesh.triangles].any(axis=1) | _outside(mesh)
    mesh.set_mask(mask)
    axes.add_patch(_outline(grid))
    if not mask.all():
        visible = np.where(broken, norm.vmax, values)
        filled = axes.tricontourf(mesh, visible, levels=_levels(norm), norm=norm, cmap=colours)
        filled.set_edgecolor("face")  # no hairlines between the bands
    axes.plot(*zip(*CORNERS, CORNERS[0], strict=True), color="black", linewidth=0.5)
    mark = {**MARK, "markeredgewidth": 0.7}
    for name, (x, y) in zip(("a", "b", "c"), CORNERS, strict=True):
        axes.plot(x, y, marker="o", markersize=4, clip_on=False, **mark)
        axes.annotate(
            str(points[name].iloc[0]),
            (x, y),
            xytext=(5 if x else -5, -1) if not y else (5, 2),
            textcoords="offset points",
            ha="left" if x else "right",
            fontsize=6,
            color="black",
        )
    axes.plot(one.average["x"], one.average["y"], marker="*", markersize=8, **mark)
    axes.set_xlabel(one.summary_text(quantity), fontsize=6.5, labelpad=2)
    axes.margins(0.08)


def _outside(mesh: Triangulation) -> np.ndarray:
    """Flat triangles along the hull, which rounding makes."""
    import numpy as np

    x, y = mesh.x[mesh.triangles], mesh.y[mesh.triangles]
    area = np.abs(
        (x[:, 1] - x[:, 0]) * (y[:, 2] - y[:, 0]) - (x[:, 2] - x[:, 0]) * (y[:, 1] - y[:, 0])
    )
    return area < 1e-3 * np.median(area)


def _outline(grid: pd.DataFrame) -> Polygon:
    """The measured area, hatched: what stays visible of it has no finite value."""
    from matplotlib.patches import Polygon

    low = grid["y"].min()
    base = grid[(grid["y"] - low).abs() < 1e-6]
    top = grid.iloc[int(grid["y"].to_numpy().argmax())]
    corners = [(base["x"].min(), low), (base["x"].max(), low), (top["x"], top["y"])]
    return Polygon(corners, facecolor="#f0f0f0", edgecolor="#999999", hatch="////", linewidth=0)


def _bar(figure: Figure, lines: list[Axes], norm: Normalize, colours: str, label: str) -> None:
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import LogNorm
    from matplotlib.ticker import NullLocator

    bar = figure.colorbar(
        ScalarMappable(norm, colours), ax=lines, shrink=0.85, aspect=18, pad=0.02, label=label
    )
    bar.outline.set_linewidth(0.5)
    if isinstance(norm, LogNorm) and norm.vmin and norm.vmax:
        bar.ax.yaxis.set_minor_locator(NullLocator())
        ticks = style.nice_ticks(norm.vmin, norm.vmax)
        bar.set_ticks(ticks, labels=[f"{tick:g}" for tick in ticks])


def _legend(figure: Figure, found: list[Map]) -> None:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    handles: list[Artist] = [
        Line2D([], [], linestyle="none", marker="o", markersize=4, label="member", **MARK),
        Line2D([], [], linestyle="none", marker="*", markersize=8, label="average of the three",
               **MARK),
    ]  # fmt: skip
    values = [one.points[["loss", "accuracy"]].abs().max().max() for one in found]
    whole = all(math.isfinite(v) for v in values) and not any(
        one.points[["loss", "accuracy"]].isna().any().any() for one in found
    )
    if not whole:
        handles.append(
            Patch(facecolor="#f0f0f0", edgecolor="#999999", hatch="////", label="not finite")
        )
    seeds = sorted({one.seed for one in found})
    figure.legend(
        handles=handles,
        loc="outside lower center",
        ncols=len(handles),
        title=f"seed {', '.join(map(str, seeds))}; below each map: the members' mean → the average",
        title_fontsize=7.5,
    )
