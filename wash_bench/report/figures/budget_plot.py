"""A table of several training budgets as curves: does a short training say what a long one does?

Left the averaged model of each method over the length of the training, beside the ensemble of
independent members; right the difference of the two, paired by seed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

from wash_bench.known_methods import INDEPENDENT as REFERENCE
from wash_bench.report import style
from wash_bench.report.figures.curve_styles import CurveStyle, styles_of
from wash_bench.report.numbers.stats import Estimate, estimate, paired

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from wash_bench.report.tables.study import StudyTable

Seeds = Mapping[int, float]


def draw(table: StudyTable) -> Figure | None:
    """The curves of a table in which budgets alone differ; None of any other table."""
    trainings = [line.resolved.config.training for line in table.lines]
    if len({(t.dataset, t.model, t.population, t.augment) for t in trainings}) > 1:
        return None
    averaged = _by_method(table, "average_acc")
    reference = _by_method(table, "ensemble_acc").get(REFERENCE, {})
    averaged.pop(REFERENCE, None)  # its average is no model of use, its ensemble is
    curves = {method: values for method, values in averaged.items() if len(values) > 1}
    if not curves:
        return None
    with style.styled():
        figure, ((left, right),) = style.new_figure(2.7, 1, 2)
        styles = styles_of({method: method for method in (*curves, REFERENCE)})
        visible = {method: _estimates(values) for method, values in curves.items()}
        gaps = {
            method: {at: paired(seeds, reference[at]) for at, seeds in values.items()
                     if at in reference}
            for method, values in curves.items()
        }  # fmt: skip
        for order, method in enumerate(curves):
            aside = 1 + 0.02 * (order - (len(curves) - 1) / 2)
            _curve(left, visible[method], styles[method], aside, method, style.PERCENT)
            _curve(right, gaps[method], styles[method], aside)
        if reference:
            name = "ensemble of independent members"
            _curve(left, _estimates(reference), styles[REFERENCE], 1.05, name, style.PERCENT)
            right.axhline(0, color=styles[REFERENCE].colour, linewidth=0.8)
        lengths = sorted({at for values in curves.values() for at in values})
        for axes in (left, right):
            axes.set_xscale("log")
            axes.minorticks_off()
            axes.set_xticks(lengths, [str(at) for at in lengths])
            axes.set_xlabel("epochs (log)")
        left.set_ylabel("test accuracy (%)")
        left.set_title("averaged model", fontweight="bold", loc="left")
        right.set_ylabel("points")
        right.set_title("averaged − independent ensemble", fontweight="bold", loc="left")
        _legend(figure, left, table)
    return figure


def _by_method(table: StudyTable, metric: str) -> dict[str, dict[int, Seeds]]:
    """By method and epochs, the values by seed."""
    found: dict[str, dict[int, Seeds]] = {}
    for place, line in enumerate(table.lines):
        if by_seed := table.values.get((place, metric)):
            epochs = line.resolved.config.training.epochs
            found.setdefault(line.row.method, {})[epochs] = by_seed
    return found


def _estimates(values: Mapping[int, Seeds]) -> dict[int, Estimate]:
    return {at: estimate(seeds.values()) for at, seeds in values.items()}


def _curve(
    axes: Axes,
    values: Mapping[int, Estimate],
    look: CurveStyle,
    aside: float,
    label: str = "",
    ends: tuple[float, float] = (-math.inf, math.inf),
) -> None:
    lengths = sorted(values)
    axes.errorbar(
        [at * aside for at in lengths],
        [values[at].mean for at in lengths],
        yerr=list(zip(*(values[at].bar(ends) for at in lengths), strict=True)),
        linestyle=look.line,
        linewidth=1.2,
        label=label,
        **look.points,
        **style.BARS,
    )


def _legend(figure: Figure, axes: Axes, table: StudyTable) -> None:
    figure.legend(
        *axes.get_legend_handles_labels(),
        loc="outside lower center",
        ncols=3,
        title=style.bars(len({record["seed"] for record in table.records})),
        title_fontsize=7,
    )
