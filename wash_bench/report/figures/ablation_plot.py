"""Accuracy against one option of a method, or one setting, with all else equal."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from wash_bench.metrics import METRICS
from wash_bench.report import style
from wash_bench.report.figures.curve_styles import CurveStyle
from wash_bench.report.numbers.stats import estimate

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLUMNS = 3
QUANTITIES = {  # by metric
    "average_acc": CurveStyle("#0072B2", "o", "-", "#0072B2"),
    "average_bn_acc": CurveStyle("#56B4E9", "o", (0, (3, 1.5)), "white"),
    "member_acc_mean": CurveStyle("#E69F00", "s", (0, (1, 1.2)), "#E69F00"),
    "ensemble_acc": CurveStyle("#333333", "D", (0, (4, 1.2, 1, 1.2)), "white"),
}


@dataclass(frozen=True)
class Sweep:
    """The cells of one method that differ in one thing alone.

    Attributes:
        method: whose they are.
        name: the option or setting that differs.
        values: its values, in ascending order.
        rows: the cells, with a column ``at``: the place of the cell's value in ``values``.
        fixed: what sets this sweep apart from others of the same method and name.
    """

    method: str
    name: str
    values: list[Any]
    rows: pd.DataFrame
    fixed: str = field(default="")

    @property
    def numeric(self) -> bool:
        return all(isinstance(v, int | float) and not isinstance(v, bool) for v in self.values)


def option_sweeps(cells: pd.DataFrame) -> list[Sweep]:
    """The sweeps over options of methods, among the finished cells of one experiment."""
    sweeps = []
    for method, rows in cells.groupby("method", sort=False):
        options = [json.loads(text) for text in rows["options"]]
        names = sorted({name for option in options for name in option})
        sweeps += _sweeps(str(method), rows, options, names)
    return sweeps


def setting_sweeps(summary: pd.DataFrame) -> list[Sweep]:
    """The sweeps over settings (N, initial weights, ...), among finished cells of experiments."""
    # Not before: it imports pydantic, and the program's help has the figures' names.
    from wash_bench.report.read.columns import LATER_SETTING_COLUMNS, SETTING_COLUMNS

    later = [name for name in LATER_SETTING_COLUMNS if name in summary]
    names = ["population", *(name for name in SETTING_COLUMNS if name != "device"), *later]
    sweeps = []
    for (method, *_), rows in summary.groupby(
        ["method", "options", "dataset", "model"], sort=False
    ):
        # A training that was measured under several evaluation settings counts once.
        rows = rows.drop_duplicates("training_id")
        settings = [{name: _plain(row[name]) for name in names} for row in rows.to_dict("records")]
        sweeps += _sweeps(str(method), rows, settings, names)
    return sweeps


def _plain(value: Any) -> Any:
    """A value that JSON knows."""
    return value.item() if hasattr(value, "item") else value


def _sweeps(
    method: str, rows: pd.DataFrame, choices: list[dict[str, Any]], names: list[str]
) -> list[Sweep]:
    """One sweep for each name, and for each choice of all the others under which it varies."""

    def key(value: Any) -> str:
        return json.dumps(value, sort_keys=True, default=str)

    differing = [n for n in names if len({key(choice.get(n)) for choice in choices}) > 1]
    found = []
    for name in differing:
        groups: dict[str, list[int]] = {}
        for place, choice in enumerate(choices):
            rest = key({other: choice.get(other) for other in differing if other != name})
            groups.setdefault(rest, []).append(place)
        several = [
            (r, g) for r, g in groups.items() if len({key(choices[i].get(name)) for i in g}) > 1
        ]
        for rest, group in several:
            values: list[Any] = [choices[i].get(name) for i in group]
            values = list({key(value): value for value in values}.values())
            numbers = all(isinstance(v, int | float) for v in values)
            values = sorted(values) if numbers else sorted(values, key=key)
            keys = [key(value) for value in values]
            own = rows.iloc[group].assign(at=[keys.index(key(choices[i].get(name))) for i in group])
            others = json.loads(rest)
            common = {
                n for n in others if len({key(json.loads(r).get(n)) for r, _ in several}) == 1
            }
            fixed = ", ".join(f"{n}={_text(v)}" for n, v in others.items() if n not in common)
            found.append(Sweep(method, name, values, own, fixed))
    return found


def draw(sweeps: list[Sweep]) -> Figure | None:
    """A panel for each of ``option_sweeps`` or ``setting_sweeps``; None without any."""
    if not sweeps:
        return None
    columns = min(COLUMNS, len(sweeps))
    rows = math.ceil(len(sweeps) / columns)
    width = style.paper().column if columns == 1 else style.paper().text
    with style.styled():
        figure, axes = style.new_figure(0.7 + 1.75 * rows, rows, columns, width=width)
        panels = [panel for line in axes for panel in line]
        for panel, sweep in zip(panels, sweeps, strict=False):
            _panel(panel, sweep)
        for panel in panels[len(sweeps) :]:
            panel.set_visible(False)
        for line in axes:
            line[0].set_ylabel("accuracy (%)")
        _legend(figure, sweeps)
    return figure


def positions(values: list[Any]) -> tuple[list[float], bool]:
    """Where values stand on a linear axis.

    Args:
        values: of an option or a setting.

    Returns:
        The places, and whether they are logarithms: of numbers that span a factor of 8, zero one
        step before the least. Other numbers stand as they are, anything else side by side.
    """
    numbers = all(isinstance(v, int | float) and not isinstance(v, bool) for v in values)
    if not numbers or not all(map(math.isfinite, values)):
        return [float(place) for place in range(len(values))], False
    positive = sorted({v for v in values if v > 0})
    if len(positive) < 2 or min(values) < 0 or positive[-1] < 8 * positive[0]:
        return [float(v) for v in values], False
    step = math.log10(positive[-1] / positive[0]) / (len(positive) - 1)
    zero = math.log10(positive[0]) - step
    return [math.log10(v) if v > 0 else zero for v in values], True


def _panel(axes: Axes, sweep: Sweep) -> None:
    places, log = positions(sweep.values)
    low, high = min(places), max(places)
    span = (high - low) or 1.0
    visible = [name for name in QUANTITIES if sweep.rows[name].notna().any()]
    drawn: list[Any] = []
    for order, name in enumerate(visible):
        look = QUANTITIES[name]
        each = [estimate(sweep.rows.loc[sweep.rows["at"] == i, name]) for i in range(len(places))]
        drawn += each
        aside = (order - (len(visible) - 1) / 2) * 0.012 * span  # or the bars hide each other
        axes.errorbar(
            [place + aside for place in places],
            [value.mean for value in each],
            yerr=list(zip(*(value.bar(style.PERCENT) for value in each), strict=True)),
            linestyle=look.line if sweep.numeric else "none",
            linewidth=1.2,
            **look.points,
            **style.BARS,
        )
    if drawn := [value for value in drawn if math.isfinite(value.mean)]:
        axes.set_ylim(*style.accuracy_limits(drawn))
    axes.set_xticks(places, _labels(places, sweep.values, span))
    if not sweep.numeric and len(places) > 3:
        axes.tick_params(axis="x", labelrotation=30)
    axes.set_xlim(low - 0.1 * span, high + 0.1 * span)
    name = "N (members)" if sweep.name == "population" else sweep.name
    axes.set_xlabel(f"{name} (log)" if log else name)
    axes.set_title(style.wrapped(sweep.method, 30), fontweight="bold", loc="left",
                   pad=10 if sweep.fixed else None)  # fmt: skip
    if sweep.fixed:
        axes.annotate(
            sweep.fixed if len(sweep.fixed) < 44 else sweep.fixed[:42] + "…",
            (0, 1),
            xytext=(0, 2),
            xycoords="axes fraction",
            textcoords="offset points",
            fontsize=6.5,
            color="#555555",
        )


def _labels(places: list[float], values: list[Any], span: float) -> list[str]:
    """Values under their ticks; none where the one before is too near."""
    labels, last = [], -math.inf
    for place, value in zip(places, values, strict=True):
        text = _text(value)
        if len(text) > 8:
            text = text.replace("_", "_\n").replace(",", ",\n")
        near = place - last < 0.03 * span * max(map(len, text.split("\n")))
        labels.append("" if near and isinstance(value, int | float) else text)
        last = last if not labels[-1] else place
    return labels


def _text(value: Any) -> str:
    """A value as it is typed on the command line."""
    if isinstance(value, list | tuple):
        return ",".join(map(_text, value)) or "none"
    if isinstance(value, bool) or value is None:
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)


def _legend(figure: Figure, sweeps: list[Sweep]) -> None:
    names = [n for n in QUANTITIES if any(s.rows[n].notna().any() for s in sweeps)]
    seeds = sorted({int(s.rows.groupby("at")["seed"].nunique().max()) for s in sweeps})
    figure.legend(
        handles=[QUANTITIES[name].sample(METRICS[name].drawn) for name in names],
        loc="outside lower center",
        ncols=2 if figure.get_figwidth() < style.paper().text else 4,
        handlelength=3,
        title=style.bars(*seeds),
        title_fontsize=7.5,
    )
