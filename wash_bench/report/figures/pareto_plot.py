"""What accuracy costs in bytes sent while training."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from wash_bench.known_methods import INDEPENDENT
from wash_bench.metrics import METRICS
from wash_bench.report import style
from wash_bench.report.figures.accuracy_plot import collapse
from wash_bench.report.figures.curve_styles import CurveStyle, styles_of
from wash_bench.report.numbers.pareto import ParetoPoint, front, inference, sent

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FEW = 8  # methods; more need the text's width for their legend
LETTERS = 17  # of a legend's names, an inch
FRONT_NAME = "Pareto front"
FRONT: dict[str, Any] = {
    "color": "#999999",
    "linewidth": 1.0,
    "linestyle": (0, (1, 1)),
    "zorder": 1,
}
# What the averages are held against: the population without an exchange.
MARKS: dict[str, dict[str, Any]] = {
    "ensemble": {"color": "#333333", "linewidth": 0.8, "linestyle": (0, (5, 2)), "zorder": 0},
    "members": {"color": "#333333", "linewidth": 0.8, "linestyle": (0, (1, 2)), "zorder": 0},
}
MARK_NAMES = {"ensemble": "independent: ensemble", "members": "independent: a member"}


def draw_bytes(cells: pd.DataFrame) -> Figure | None:
    """Accuracy against megabytes sent, of an experiment's finished cells; None without any."""
    offers = sent(cells)
    if not offers:
        return None
    plain = [offer for offer in offers if offer.model == "one network"]
    marks = [offer for offer in inference(cells) if offer.method == INDEPENDENT]
    marks = [offer for offer in marks if offer.model in MARKS]
    further = [FRONT_NAME, *(MARK_NAMES[offer.model] for offer in marks)]
    styles = _styles(offers)
    with style.styled():
        figure, ((axes,),) = style.new_figure(
            2.7 + _legend_height(styles, further), 1, 1, width=_width(styles)
        )
        costs = sorted({offer.cost for offer in offers if offer.cost > 0})
        zero = _axis(axes, costs, silent=any(offer.cost == 0 for offer in offers))
        floor = _floor(axes, [*offers, *marks])
        for mark in marks:
            if mark.accuracy.mean >= floor:
                axes.axhline(mark.accuracy.mean, **MARKS[mark.model])
        silent = [offer.variant for offer in plain if offer.cost == 0]

        def x(offer: ParetoPoint) -> float:  # those that send nothing stand side by side
            if offer.cost > 0:
                return offer.cost
            place = silent.index(offer.variant) - (len(silent) - 1) / 2
            place /= max(1, len(silent) - 1)
            return zero * (costs[0] / zero) ** (0.5 * place) if costs else place

        for method in dict.fromkeys(offer.method for offer in plain):
            # Settings of one method: its own line.
            own = sorted((x(o), o.accuracy.mean) for o in plain if o.method == method)
            look = next(styles[offer.variant] for offer in plain if offer.method == method)
            if len(own) > 1:
                axes.plot(
                    [x for x, _ in own], [max(y, floor) for _, y in own],
                    color=look.colour, linewidth=0.6, alpha=0.5, zorder=1,
                )  # fmt: skip
        for offer in offers:
            open_ = offer.model == "re-estimated"
            _point(axes, x(offer), offer, styles[offer.variant], floor, open_=open_)
        best = [plain[i] for i in front([(o.cost, o.accuracy.mean) for o in plain])]
        steps = [(x(offer), max(offer.accuracy.mean, floor)) for offer in best]
        steps.append((axes.get_xlim()[1], steps[-1][1]))
        axes.step(*zip(*steps, strict=True), where="post", **FRONT)
        axes.set_xlabel(f"{METRICS['sent_bytes_total'].heading} per member while training")
        axes.set_ylabel("accuracy of one network (%)")
        again = any(offer.model == "re-estimated" for offer in offers)
        lines = {MARK_NAMES[mark.model]: MARKS[mark.model] for mark in marks}
        _legend(figure, styles, "open: BN re-estimated" if again else "", cells, lines)
    return figure


def _styles(offers: list[ParetoPoint]) -> dict[str, CurveStyle]:
    return styles_of({offer.variant: offer.method for offer in offers})


def _width(styles: dict[str, CurveStyle]) -> float:
    return style.paper().column if len(styles) <= FEW else style.paper().text


def _columns(styles: dict[str, CurveStyle], further: Sequence[str]) -> int:
    """How many columns of names fit into the legend, which is filled column by column."""
    labels = [*map(_label, styles), *further]
    for count in range(min(5, len(labels)), 1, -1):
        longest = [max(len(line) for label in column for line in label.split("\n"))
                   for column in _split(labels, count)]  # fmt: skip
        if sum(longest) + 6 * count <= LETTERS * _width(styles):
            return count
    return 1


def _legend_height(styles: dict[str, CurveStyle], further: Sequence[str]) -> float:
    """In inches, of the names alone."""
    columns = _split([*map(_label, styles), *further], _columns(styles, further))
    return 0.14 * max(sum(label.count("\n") + 1 for label in column) for column in columns)


def _split(labels: list[str], count: int) -> list[list[str]]:
    """The labels in columns, the first ones longer by one where they are unequal."""
    rows, longer = divmod(len(labels), count)
    ends = [rows * place + min(place, longer) for place in range(count + 1)]
    return [labels[start:end] for start, end in itertools.pairwise(ends)]


def _label(variant: str) -> str:
    return style.wrapped(variant, 26)


def _axis(axes: Axes, costs: list[float], *, silent: bool) -> float:
    """A logarithmic axis of costs; returns where those that send nothing are drawn on it."""
    if not costs:
        axes.set_xlim(-1, 1)
        axes.set_xticks([0], ["0"])
        return 0.0
    low, high = min(costs), max(costs)
    gap = max(2.5, (high / low) ** 0.25)
    zero = low / gap
    axes.set_xscale("log")
    axes.set_xlim(zero / gap**0.45 if silent else low / gap**0.4, high * gap**0.45)
    ticks = [tick for tick in style.nice_ticks(low / 1.5, high * 1.5)]
    if len(ticks) > 5:
        ticks = ticks[:: math.ceil(len(ticks) / 5)]
    labels = [f"{tick:g}" for tick in ticks]
    if silent:
        axes.axvline(low / gap**0.5, color="#bbbbbb", linewidth=0.6, linestyle=(0, (2, 2)))
        ticks, labels = [zero, *ticks], ["0", *labels]
    axes.set_xticks(ticks, labels)
    axes.set_xticks([], minor=True)
    return zero


def _floor(axes: Axes, offers: list[ParetoPoint]) -> float:
    """Set the accuracies that are shown; collapsed networks stand on the lower edge, in words."""
    least = collapse(offers)
    visible = [o.accuracy for o in offers if o.accuracy.mean >= least]
    if not visible:
        return 0.0
    axes.set_ylim(*style.accuracy_limits(visible))
    means = [value.mean for value in visible]
    return min(means) if len(visible) == len(offers) else axes.get_ylim()[0]


def _point(
    axes: Axes, x: float, offer: ParetoPoint, look: CurveStyle, floor: float, *, open_: bool
) -> None:
    from matplotlib.text import Annotation

    mean = offer.accuracy.mean
    if not math.isfinite(mean):
        return
    below = mean < floor
    axes.errorbar(
        x,
        max(mean, floor),
        yerr=None if below or offer.accuracy.n < 2 else style.lengths(offer.accuracy),
        marker=look.marker,
        markersize=4 if open_ else 5,
        color=look.colour,
        markerfacecolor="white" if open_ else look.colour,
        markeredgewidth=0.8,
        alpha=0.75 if open_ else 1,
        zorder=2 if open_ else 3,
        clip_on=not below,
        capthick=0.8,
        **style.BARS,
    )
    if below:
        # Above other labels at nearly the same place.
        at = axes.transData.transform((x, floor))[0]
        near = sum(
            isinstance(text, Annotation) and abs(axes.transData.transform(text.xy)[0] - at) < 9
            for text in axes.texts
        )
        axes.annotate(
            f"↓{mean:.1f}",
            (x, floor),
            xytext=(0, 5 + 19 * near),
            textcoords="offset points",
            ha="center",
            va="bottom",
            rotation=90,
            fontsize=6,
            color=look.colour,
        )


def _legend(
    figure: Figure,
    styles: dict[str, CurveStyle],
    note: str,
    cells: pd.DataFrame,
    lines: Mapping[str, dict[str, Any]] | None = None,
) -> None:
    from matplotlib.lines import Line2D

    handles = [
        Line2D([], [], linestyle="none", marker=look.marker, markersize=5, color=look.colour,
               label=_label(name))
        for name, look in styles.items()
    ]  # fmt: skip
    lines = {FRONT_NAME: FRONT, **(lines or {})}
    handles += [Line2D([], [], **look, label=name) for name, look in lines.items()]
    seeds = cells["seed"].nunique()
    parts = [note, style.bars(seeds).replace("Student-t intervals over", "t,")]
    narrow = figure.get_figwidth() < style.paper().text
    figure.legend(
        handles=handles,
        loc="outside lower center",
        ncols=_columns(styles, list(lines)),
        columnspacing=1.0,
        handletextpad=0.4,
        fontsize=7,
        title=("\n" if narrow else "; ").join(part for part in parts if part),
        title_fontsize=7,
        alignment="left",
    )
