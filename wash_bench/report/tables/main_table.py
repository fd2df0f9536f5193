"""The main table: a row a method, over its seeds, one table for each experiment.

The papers' columns (members, ensemble, averaged model, greedy soup) stand beside what the
coupling cost. The best of the columns that hold one network's accuracy is bold; what the seeds
cannot tell from it has a dagger.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

from wash_bench.data.catalog import spec_of
from wash_bench.errors import UsageError, nearest
from wash_bench.metrics import DERIVED, MAIN_TABLE, METRICS
from wash_bench.report.numbers.batchnorm import TWICE, without_copies
from wash_bench.report.numbers.stats import Estimate, estimate, paired
from wash_bench.report.shown import columns_of
from wash_bench.report.tables import caption, notes
from wash_bench.report.tables.grid import MISSING, Cell, Table, number, with_interval, written

if TYPE_CHECKING:
    import pandas as pd

    from wash_bench.report.read.frames import Records

# What stands beside a value, as the heading says it.
_ASIDE = {"member_acc_mean": " [min, max]", "greedy_acc": " (size)"}
# Shown where a method delivers one network that is none of the usual merges.
_OF_OWN_NETWORKS = ("method_network_acc", "method_bn_acc", "merge_seconds")
# Not known of networks that were trained elsewhere.
_OF_TRAINING = ("sent_values_per_step", "sent_bytes_total", "wire_bytes_total", "train_seconds")
_MAYBE_ABSENT = {*_OF_TRAINING, *TWICE}
# Measured where it was asked for.
_IF_ASKED = {key for key in MAIN_TABLE if key.startswith("corrupted_")}
DERIVED_KEYS = {metric.key for metric in DERIVED}


def main_tables(records: Records, *, digits: int = 2) -> list[Table]:
    """A table for each experiment, with so many decimals of the accuracies."""
    return [
        _table(records, experiment_id, cells, digits)
        for experiment_id, cells in records.experiments()
    ]


class _Rows:
    """The finished cells of one experiment, by variant: a row of the table each."""

    def __init__(self, finished: pd.DataFrame, digits: int) -> None:
        single = finished["method_acc"].where(finished["method_networks"] == 1)
        finished = finished.assign(method_network_acc=single)
        self.digits, self.baseline = digits, ""
        self.images = spec_of(finished["dataset"].iloc[0]).test_images if len(finished) else None
        self.groups = {str(name): rows for name, rows in finished.groupby("variant", sort=False)}

    def by_seed(self, variant: str, key: str) -> dict[int, float]:
        group = self.groups[variant]
        return {
            int(seed): float(value)
            for seed, value in zip(group["seed"], group[key], strict=True)
            if not math.isnan(value)
        }

    def estimate(self, variant: str, key: str) -> Estimate:
        return estimate(self.by_seed(variant, key).values())

    def network(self, variant: str) -> dict[int, float]:
        """Accuracy by seed of the one network a method stands for: its own, else the average."""
        own = self.by_seed(variant, "method_network_acc")
        return own or self.by_seed(variant, "average_acc")

    def column(self, key: str, papa: float | None) -> list[Cell]:
        """A metric's entries; ``papa`` is what PAPA sends, where it is compared."""
        texts = [self._text(variant, key, papa) for variant in self.groups]
        if not METRICS[key].ranked:
            return [Cell(text) for text in texts]
        values = {variant: self.by_seed(variant, key) for variant in self.groups}
        best, tied = rank(values, self.images)
        return [
            Cell(text, variant in best, variant in tied)
            for variant, text in zip(self.groups, texts, strict=True)
        ]

    def _text(self, variant: str, key: str, papa: float | None) -> str:
        if key == "average_less_ensemble":
            average = self.by_seed(variant, "average_acc")
            difference = paired(average, self.by_seed(variant, "ensemble_acc"), self.images)
            return with_interval(difference, self.digits, signed=True)
        if key == "less_baseline":
            if variant == self.baseline:
                return MISSING
            base = self.network(self.baseline)
            difference = paired(self.network(variant), base, self.images)
            return with_interval(difference, self.digits, signed=True)
        metric = METRICS[key]
        if key == "sent_vs_papa" and papa is not None:
            share = self.estimate(variant, "sent_values_total").mean / papa
            return written(estimate([share]), metric)
        digits = self.digits if metric.unit == "%" else None
        text = written(self.estimate(variant, key), metric, digits)
        if key == "member_acc_mean":
            low = self.by_seed(variant, "member_acc_min").values()
            high = self.by_seed(variant, "member_acc_max").values()
            if low and high:
                text += f" [{number(min(low), self.digits)}, {number(max(high), self.digits)}]"
        elif key == "greedy_acc" and (size := self.estimate(variant, "greedy_size")).n:
            text += f" ({size.mean:.2g})"
        return text


def _table(records: Records, experiment_id: str, cells: pd.DataFrame, digits: int) -> Table:
    cells = without_copies(cells)
    finished = cells[cells["status"] == "finished"]
    rows = _Rows(finished, digits)
    own, papa = own_networks(finished), papa_total(finished)
    rows.baseline = baseline_of(finished, records.shown.baseline)
    keys = [
        key
        for key in columns_of(records.shown)
        if (own or key not in _OF_OWN_NETWORKS)
        and (papa is not None or key != "sent_vs_papa")
        and (rows.baseline or key != "less_baseline")
        and (key in DERIVED_KEYS or finished.empty or key in finished)
        and (
            key not in (*_MAYBE_ABSENT, *_IF_ASKED) or finished.empty or finished[key].notna().any()
        )
    ]
    table = Table(
        experiment_id=experiment_id,
        title=caption.title(cells),
        caption=caption.caption(records, experiment_id, cells),
        keys=["method", *keys],
        columns=["method", *(_heading(key, rows.baseline) for key in keys)],
        rows=[],
        chosen=bool(records.shown.columns),
        intervals=caption.intervals(sorted(finished["seed"].unique())),
    )
    columns = [rows.column(key, papa) for key in keys]
    table.rows = [
        [Cell(name), *entries] for name, *entries in zip(rows.groups, *columns, strict=True)
    ]
    shown = [cell for row in table.rows for cell in row]
    table.notes = notes.below(
        records,
        cells,
        bold=any(cell.best for cell in shown),
        dagger=any(cell.tied for cell in shown),
        baseline=rows.baseline,
    )
    return table


def _heading(key: str, baseline: str) -> str:
    if key == "less_baseline":
        return f"one network − {baseline}"
    return METRICS[key].heading + _ASIDE.get(key, "")


def rank(
    values: Mapping[str, Mapping[int, float]], images: int | None = None
) -> tuple[set[str], set[str]]:
    """The best rows of a column, and those that the seeds cannot tell from the best.

    Args:
        values: by row, the accuracy by seed.
        images: the test images, where their number is known.

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
        if any(paired(values[leader], values[name], images).contains_zero for leader in best)
    }
    return best, tied


def own_networks(finished: pd.DataFrame) -> bool:
    """Whether some method delivers one network that is none of the usual merges."""
    return bool(set(finished["method_predictor"].dropna()) - {"ensemble", "average", "greedy"})


def baseline_of(finished: pd.DataFrame, baseline: str) -> str:
    """The variant that a baseline is among these cells.

    Args:
        finished: cells of one experiment.
        baseline: a method, or a variant's name.

    Returns:
        The variant's name; empty where these cells have none.

    Raises:
        UsageError: several variants are of that method.
    """
    variants = list(finished["variant"].unique())
    if not baseline or baseline in variants:
        return baseline
    own = list(finished[finished["method"] == baseline]["variant"].unique())
    if len(own) > 1:
        raise UsageError(f"--baseline {baseline}: which of {', '.join(own)}?")
    return str(own[0]) if own else ""


def check_baseline(records: Records) -> None:
    """Refuse, with a UsageError, a baseline that no experiment has."""
    summary = records.summary[records.summary["status"] == "finished"]
    found = [
        baseline_of(cells, records.shown.baseline) for _, cells in summary.groupby("experiment_id")
    ]
    if records.shown.baseline and not any(found):
        known = sorted({*summary["method"], *summary["variant"]})
        raise UsageError(
            f"--baseline {records.shown.baseline}: {nearest(records.shown.baseline, known)}"
        )


def check_columns(records: Records) -> None:
    """Refuse, with a UsageError, a column that no record has."""
    for key in records.shown.columns:
        if key not in DERIVED_KEYS and key not in records.summary:
            raise UsageError(f"--columns {key}: none of these records has it")


def papa_total(finished: pd.DataFrame) -> float | None:
    """Values that PAPA sends in this experiment; None without PAPA or with several settings."""
    papa = finished[finished["method"] == "papa"]
    total = papa["sent_values_total"].mean()
    if papa["variant"].nunique() != 1 or math.isnan(total) or total == 0:
        return None
    return float(total)
