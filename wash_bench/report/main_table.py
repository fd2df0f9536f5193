"""The main table: a row a method, over its seeds, one table for each experiment.

The papers' columns (members, ensemble, averaged model, greedy soup) stand beside what the
coupling cost. The best of the columns that hold one network's accuracy is bold; what the seeds
cannot tell from it has a dagger.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from wash_bench.report import notes
from wash_bench.report.grid import MISSING, Cell, Table, amount, number, with_interval
from wash_bench.report.stats import Estimate, estimate, paired

if TYPE_CHECKING:
    import pandas as pd

    from wash_bench.report.frames import Records


def main_tables(records: Records, *, digits: int = 2) -> list[Table]:
    """One table for each experiment in ``records``.

    Args:
        records: what ``frames.load`` read.
        digits: decimals of the accuracies.
    """
    return [
        _table(records, experiment_id, cells, digits)
        for experiment_id, cells in records.experiments()
    ]


class _Rows:
    """The finished cells of one experiment, by variant."""

    def __init__(self, finished: pd.DataFrame) -> None:
        self.groups = dict(list(finished.groupby("variant", sort=False)))

    def by_seed(self, variant: str, metric: str) -> dict[int, float]:
        group = self.groups[variant]
        return {
            int(seed): float(value)
            for seed, value in zip(group["seed"], group[metric], strict=True)
            if not math.isnan(value)
        }

    def estimate(self, variant: str, metric: str) -> Estimate:
        return estimate(self.by_seed(variant, metric).values())


def _table(records: Records, experiment_id: str, cells: pd.DataFrame, digits: int) -> Table:
    finished = cells[cells["status"] == "finished"]
    single = finished["method_acc"].where(finished["method_networks"] == 1)
    rows = _Rows(finished.assign(method_single_acc=single))
    columns: dict[str, list[Cell]] = {"method": [Cell(name) for name in rows.groups]}

    def add(name: str, entry: Callable[[str], str]) -> None:
        columns[name] = [Cell(entry(variant)) for variant in rows.groups]

    def add_single(name: str, metric: str, entry: Callable[[str], str]) -> None:
        values = {variant: rows.by_seed(variant, metric) for variant in rows.groups}
        best, tied = rank(values)
        columns[name] = [
            Cell(entry(variant), variant in best, variant in tied) for variant in rows.groups
        ]

    def accuracy(metric: str) -> Callable[[str], str]:
        return lambda variant: with_interval(rows.estimate(variant, metric), digits)

    def spread(mean: str) -> Callable[[str], str]:
        def entry(variant: str) -> str:
            text = with_interval(rows.estimate(variant, mean), digits)
            low = rows.by_seed(variant, mean.replace("_mean", "_min")).values()
            high = rows.by_seed(variant, mean.replace("_mean", "_max")).values()
            if not low or not high:
                return text
            return f"{text} [{number(min(low), digits)}, {number(max(high), digits)}]"

        return entry

    def soup(variant: str) -> str:
        text = accuracy("greedy_acc")(variant)
        size = rows.estimate(variant, "greedy_size").mean
        return text if math.isnan(size) else f"{text} ({size:.2g})"

    def gap(variant: str) -> str:
        average = rows.by_seed(variant, "average_acc")
        difference = paired(average, rows.by_seed(variant, "ensemble_acc"))
        return with_interval(difference, digits, signed=True)

    def megabytes(metric: str) -> Callable[[str], str]:
        return lambda variant: amount(rows.estimate(variant, metric).mean / 1e6)

    add_single("members [min, max]", "member_acc_mean", spread("member_acc_mean"))
    add("ensemble", accuracy("ensemble_acc"))
    add_single("averaged", "average_acc", accuracy("average_acc"))
    add_single("averaged, BN re-est.", "average_bn_acc", accuracy("average_bn_acc"))
    add_single("members, BN re-est.", "member_bn_acc_mean", accuracy("member_bn_acc_mean"))
    add("ensemble, BN re-est.", accuracy("ensemble_bn_acc"))
    add_single("greedy soup (size)", "greedy_acc", soup)
    if own_networks(finished):
        add_single("the method's own network", "method_single_acc", accuracy("method_single_acc"))
        add_single("own network, BN re-est.", "method_bn_acc", accuracy("method_bn_acc"))
        add("merge s", lambda v: number(rows.estimate(v, "merge_seconds").mean, 1))
    add("averaged − ensemble", gap)
    add("loss barrier, max", lambda v: with_interval(rows.estimate(v, "barrier_loss_max"), 3))
    add("values sent a step", lambda v: amount(rows.estimate(v, "sent_values_per_step").mean))
    add("MB sent", megabytes("sent_bytes_total"))
    add("MB on the wire", megabytes("wire_bytes_total"))
    reference = papa_total(finished)
    if reference is not None:
        add(
            "sent vs PAPA",
            lambda v: _ratio(rows.estimate(v, "sent_values_total").mean, reference),
        )
    add("train s", lambda v: number(rows.estimate(v, "train_seconds").mean, 1))

    table = Table(
        experiment_id=experiment_id,
        title=notes.title(cells),
        caption=notes.caption(records, experiment_id, cells),
        columns=list(columns),
        rows=[list(row) for row in zip(*columns.values(), strict=True)],
        intervals=notes.intervals(cells),
    )
    shown = [cell for row in table.rows for cell in row]
    table.notes = notes.below(
        records,
        experiment_id,
        cells,
        bold=any(cell.best for cell in shown),
        dagger=any(cell.tied for cell in shown),
    )
    return table


def rank(values: Mapping[str, Mapping[int, float]]) -> tuple[set[str], set[str]]:
    """The best rows of a column, and those that the seeds cannot tell from the best.

    Args:
        values: by row, the accuracy by seed.

    Returns:
        The rows with the greatest mean (one, unless means are equal), and the rows whose
        difference to it, paired by seed, has a 95 % interval that contains 0. A column with
        fewer than two rows has neither: there is nothing to compare.
    """
    means = {name: estimate(seeds.values()).mean for name, seeds in values.items()}
    means = {name: mean for name, mean in means.items() if not math.isnan(mean)}
    if len(means) < 2:
        return set(), set()
    top = max(means.values())
    best = {name for name, mean in means.items() if math.isclose(mean, top, abs_tol=1e-9)}
    if len(best) == len(means):
        return set(), set()
    tied = {
        name
        for name in means.keys() - best
        if any(paired(values[leader], values[name]).contains_zero for leader in best)
    }
    return best, tied


def own_networks(finished: pd.DataFrame) -> bool:
    """Whether some method delivers one network that is none of the usual merges."""
    return bool(set(finished["method_predictor"].dropna()) - {"ensemble", "average", "greedy"})


def papa_total(finished: pd.DataFrame) -> float | None:
    """Values that PAPA sends in this experiment; None without PAPA or with several settings."""
    papa = finished[finished["method"] == "papa"]
    total = papa["sent_values_total"].mean()
    if papa["variant"].nunique() != 1 or math.isnan(total) or total == 0:
        return None
    return float(total)


def _ratio(value: float, reference: float) -> str:
    return MISSING if math.isnan(value) else f"{amount(value / reference)}×"
