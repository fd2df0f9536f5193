"""The main table, a row a method, over its seeds, and the compact table of all methods.

In front stand accuracy and NLL of the network that each method delivers, with compact letters;
then the networks that its population gives besides, and what the coupling cost.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from wash_bench.errors import UsageError, nearest
from wash_bench.known_methods import DEFAULT_BASELINE, INDEPENDENT, TRAFFIC_REFERENCE
from wash_bench.metrics import DERIVED, METHODS_TABLE, METRICS, WIDE_TABLE
from wash_bench.report.numbers.comparisons import Comparisons, compare_rows
from wash_bench.report.numbers.diagnosis import without_copies
from wash_bench.report.numbers.pareto import equivalents
from wash_bench.report.numbers.stats import Estimate, by_seed, estimate, paired
from wash_bench.report.tables import caption, notes
from wash_bench.report.tables.answer import answer
from wash_bench.report.tables.markdown import escape
from wash_bench.report.tables.table import (
    MISSING,
    Column,
    Table,
    build_table,
    format_estimate,
    format_fixed,
    format_sig,
    with_interval,
)

if TYPE_CHECKING:
    import pandas as pd

    from wash_bench.report.read.frames import Records

# What stands beside a value, as the heading says it.
_ASIDE = {"member_acc_mean": " [min, max]", "greedy_acc": " (size)"}
# Shown where a method delivers one network that is none of the usual merges.
_OF_OWN_NETWORKS = ("method_bn_acc", "merge_seconds")
DERIVED_KEYS = {metric.key for metric in DERIVED}
SIGNIFICANT = "*"


def main_tables(records: Records, *, digits: int = 2) -> list[Table]:
    """Build a table for each experiment, with so many decimals of the accuracies; only once."""
    key = ("main_tables", digits, str(records.options))
    if key not in records.computed:
        records.computed[key] = [
            build(records, experiment_id, cells, records.options.table_columns, digits)
            for experiment_id, cells in records.experiments()
        ]
    return records.computed[key]


def wide_table(records: Records, experiment_id: str, cells: pd.DataFrame) -> Table:
    """Every score of every network that an experiment recorded."""
    return build(records, experiment_id, cells, WIDE_TABLE)


class _Rows:
    """The finished cells of one experiment, by variant: a row of the table each."""

    def __init__(self, finished: pd.DataFrame, digits: int, compared: Comparisons) -> None:
        self.digits, self.compared, self.baseline = digits, compared, compared.baseline
        self.groups = {str(name): rows for name, rows in finished.groupby("variant", sort=False)}
        self.papa = papa_total(finished)
        self.equivalents = equivalents(finished)

    def by_seed(self, variant: str, key: str) -> dict[int, float]:
        return by_seed(self.groups[variant], key)

    def estimate(self, variant: str, key: str) -> Estimate:
        return estimate(self.by_seed(variant, key).values())

    def column(self, key: str) -> Column[str]:
        """Return a metric's column; its rows are variants."""
        marks = self.compared.letters.get(key, {})
        if key == "less_baseline":
            different = self.compared.verdicts("method_acc")
            marks = {row: SIGNIFICANT * apart for row, apart in different.items()}
        heading = METRICS[key].heading + _ASIDE.get(key, "")
        if key == "less_baseline":
            heading = f"delivered − {self.baseline}"
        return Column(heading, lambda row: self._text(row, key), lambda row: marks.get(row, ""))

    def _difference(self, a: dict[int, float], b: dict[int, float]) -> str:
        return with_interval(paired(a, b), self.digits, signed=True)

    def _text(self, variant: str, key: str) -> str:
        values = self.by_seed(variant, key)
        if key == "average_less_ensemble":
            ensemble = self.by_seed(variant, "ensemble_acc")
            return self._difference(self.by_seed(variant, "average_acc"), ensemble)
        if key == "less_baseline":
            own, base = (self.by_seed(row, "method_acc") for row in (variant, self.baseline))
            return MISSING if variant == self.baseline else self._difference(own, base)
        if key == "less_ensemble":
            own, ensemble = (self.by_seed(variant, k) for k in ("method_acc", "ensemble_acc"))
            return self._difference(own, ensemble)
        if key == "sent_vectors":
            size = self.estimate(variant, "parameters").mean
            return format_sig(self.estimate(variant, "sent_values_total").mean / size)
        if key == "deep_ensemble_equivalent":
            return self.equivalents.get(variant, MISSING)
        metric = METRICS[key]
        if key == "sent_vs_papa":
            share = self.estimate(variant, "sent_values_total").mean / (self.papa or math.nan)
            return format_estimate(estimate([share]), metric)
        digits = metric.digits
        if digits is not None and metric.scores:
            digits += self.digits - 2
        text = format_estimate(estimate(values.values()), metric, digits)
        if key == "member_acc_mean":
            low = self.by_seed(variant, "member_acc_min").values()
            high = self.by_seed(variant, "member_acc_max").values()
            if low and high:
                ends = (format_fixed(end, self.digits) for end in (min(low), max(high)))
                text += f" [{', '.join(ends)}]"
        elif key == "greedy_acc" and (size := self.estimate(variant, "greedy_size")).n:
            text += f" ({size.mean:.2g})"
        elif key == "method_acc" and (size := self.estimate(variant, "method_networks")).mean > 1:
            text += f" ({size.mean:.2g} networks)"
        return text


def build(
    records: Records,
    experiment_id: str,
    cells: pd.DataFrame,
    wanted: Sequence[str],
    digits: int = 2,
    baseline: str = "",
) -> Table:
    """Build the table of one experiment.

    Args:
        records: the report's.
        experiment_id: which experiment.
        cells: its rows of the summary.
        wanted: keys of ``metrics.METRICS``; those without a recorded value are left out.
        digits: decimals of accuracies.
        baseline: in place of the report's.

    Returns:
        The table with its caption and notes; without rows where no cell finished.
    """
    cells = without_copies(cells)
    finished = cells[cells["status"] == "finished"]
    baseline = baseline_of(finished, baseline or records.options.baseline)
    compared = compare_rows(records, experiment_id, finished, baseline)
    rows = _Rows(finished, digits, compared)
    absent = set() if own_networks(finished) else {*_OF_OWN_NETWORKS}
    absent |= {
        key
        for key, there in (
            ("sent_vs_papa", rows.papa is not None),
            ("less_baseline", baseline),
            ("deep_ensemble_equivalent", rows.equivalents),
        )
        if not there
    }
    if "dead_parameters" not in finished or not finished["dead_parameters"].gt(0).any():
        absent |= {"dead_parameters", "sent_bytes_live_total", "consensus_relative_live"}
    keys = [
        key
        for key in wanted
        if key not in absent
        and (
            key in DERIVED_KEYS
            or finished.empty
            or (key in finished and finished[key].notna().any())
        )
    ]
    return build_table(
        caption.title(records, cells),
        rows.groups,
        [Column("method", str, right=False), *map(rows.column, keys)],
        caption=caption.caption(records, experiment_id, cells),
        notes=notes.below(records, cells, keys, compared),
        keys=["method", *keys],
        experiment_id=experiment_id,
        intervals=caption.intervals(sorted(finished["seed"].unique())),
        chosen=bool(records.options.columns),
        answer=answer(rows.groups, compared),
    )


def collapsed_rows(
    records: Records, experiment_id: str, cells: pd.DataFrame, baseline: str
) -> list[str]:
    """The rows whose delivered network collapsed."""
    finished = without_copies(cells)[cells["status"] == "finished"]
    name = baseline_of(finished, baseline)
    return compare_rows(records, experiment_id, finished, name).collapsed


def comparisons(records: Records) -> pd.DataFrame:
    """The rows of comparisons.csv: every row of every experiment against the baseline."""
    import pandas as pd

    found = []
    for experiment_id, cells in records.experiments():
        finished = cells[cells["status"] == "finished"]
        baseline = baseline_of(finished, records.options.baseline)
        table = compare_rows(records, experiment_id, finished, baseline).against.copy()
        table.insert(0, "experiment_id", experiment_id)
        found.append(table)
    return pd.concat(found, ignore_index=True)


def own_networks(finished: pd.DataFrame) -> bool:
    """Whether some method delivers one network that is none of the usual merges."""
    return bool(set(finished["method_predictor"].dropna()) - {"ensemble", "average", "greedy"})


def baseline_of(finished: pd.DataFrame, baseline: str) -> str:
    """The variant that a baseline is among these cells.

    Args:
        finished: cells of one experiment.
        baseline: a method, or a variant's name; if empty, ``DEFAULT_BASELINE``.

    Returns:
        The variant's name; empty where these cells have none.

    Raises:
        UsageError: several variants are of that method.
    """
    own = list(finished[finished["method"] == (baseline or DEFAULT_BASELINE)]["variant"].unique())
    if baseline in list(finished["variant"]):
        return baseline
    if len(own) > 1:
        if not baseline:
            return ""
        raise UsageError(f"--baseline {baseline}: which of {', '.join(own)}?")
    return str(own[0]) if own else ""


def check_baseline(records: Records) -> None:
    """Refuse, with a UsageError, a baseline that no experiment has, and a margin without one."""
    options = records.options
    summary = records.summary[records.summary["status"] == "finished"]
    found = [baseline_of(cells, options.baseline) for _, cells in summary.groupby("experiment_id")]
    if any(found):
        return
    if options.baseline:
        known = sorted({*summary["method"], *summary["variant"]})
        raise UsageError(f"--baseline {options.baseline}: {nearest(options.baseline, known)}")
    if options.margin is not None:
        raise UsageError(
            f"--margin {options.margin:g}: nothing to be equivalent to; name a row by --baseline"
        )


def check_columns(records: Records) -> None:
    """Refuse, with a UsageError, a column that no record has."""
    for key in records.options.columns:
        if key not in DERIVED_KEYS and key not in records.summary:
            raise UsageError(f"--columns {key}: none of these records has it")


def papa_total(finished: pd.DataFrame) -> float | None:
    """Values that PAPA sends in this experiment; None without PAPA or with several settings."""
    papa = finished[finished["method"] == TRAFFIC_REFERENCE]
    total = papa["sent_values_total"].mean()
    if papa["variant"].nunique() != 1 or math.isnan(total) or total == 0:
        return None
    return float(total)


OTHER = "Methods that are not installed"


def methods_text(records: Records) -> str:
    """Return the text of methods.md; merge rules whose network collapsed stand in one line."""
    baseline = records.options.baseline or INDEPENDENT
    merges = _headings()["merge"]
    parts = []
    for experiment_id, cells in records.experiments():
        table = build(records, experiment_id, cells, METHODS_TABLE, baseline=baseline)
        fallen = collapsed_rows(records, experiment_id, cells, baseline)
        finished = cells[cells["status"] == "finished"]
        accuracy = finished.groupby("variant")["method_acc"].apply(lambda v: estimate(v).mean)
        order = sorted(table.rows, key=lambda row: -_or_least(accuracy[row[0].text]))
        lines = [f"## {escape(table.title)}", *map(escape, table.caption)]
        kinds = dict(zip(finished["variant"], finished["method"].map(_kind), strict=True))
        for kind in dict.fromkeys((*_headings().values(), OTHER)):
            own = [row for row in order if kinds[row[0].text] == kind]
            out = [row for row in own if kind == merges and row[0].text in fallen]
            if own:
                lines.append(f"**{kind}**")
            if len(own) > len(out):
                lines.append(replace(table, rows=[row for row in own if row not in out]).body())
            if out:
                ends = " to ".join(f"{accuracy[row[0].text]:.2f}" for row in (out[-1], out[0]))
                names = ", ".join(escape(row[0].text) for row in out)
                lines.append(f"Collapsed here, with {ends} %: {names}.")
        lines.append("\n".join(f"- {escape(note)}" for note in table.notes))
        parts.append("\n\n".join(lines))
    return "# All methods on one table\n\n" + "\n\n".join(parts) + "\n"


def _or_least(value: float) -> float:
    return -math.inf if math.isnan(value) else value


def _headings() -> dict[str, str]:
    from wash_bench.core.method import KINDS

    return {kind: heading.capitalize() for kind, heading in KINDS.items()}


def _kind(method: str) -> str:
    """The heading under which a method stands."""
    from wash_bench.plugins.registry import find_method

    try:
        return _headings()[find_method(method).kind]
    except UsageError:
        return OTHER
