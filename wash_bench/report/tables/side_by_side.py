"""Two reports side by side: what differs in how they were made, and whether the numbers do."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from wash_bench.errors import WashBenchError
from wash_bench.metrics import COMPARED, METRICS
from wash_bench.report.numbers import pairing
from wash_bench.report.numbers.batchnorm import without_copies
from wash_bench.report.numbers.stats import (
    ENOUGH,
    LEVEL,
    Estimate,
    by_seed,
    estimate,
    paired,
)
from wash_bench.report.tables.grid import MISSING, number, with_interval
from wash_bench.report.tables.markdown import escape, table

HEADINGS = ("method", "metric", "A", "B", "B − A", "seeds", "verdict")


@dataclass(frozen=True)
class Row:
    """A metric in both; the difference is B - A, paired over ``seeds``, else of the two means."""

    experiment: str
    method: str
    key: str
    a: Estimate
    b: Estimate
    difference: Estimate
    seeds: tuple[int, ...]

    @property
    def metric(self) -> str:
        """The metric with its unit."""
        return METRICS[self.key].titled

    @property
    def verdict(self) -> str:
        """Whether the two are significantly different."""
        if self.difference.n == 0:
            return MISSING
        # A CSV file may be off by the last bit of what the records hold.
        small = 1e-9 * max(abs(self.a.mean), abs(self.b.mean))
        if abs(self.difference.mean) <= small and (self.difference.half_width or 0) <= small:
            return "equal"
        if self.difference.contains_zero is None:
            return "too few seeds"
        if self.difference.contains_zero:
            return "not significantly different"
        return "significantly different"


@dataclass
class Comparison:
    """What ``compare`` found: sentences that come first, and the rows."""

    a: Path
    b: Path
    differences: list[str] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)

    def frame(self) -> pd.DataFrame:
        """A row a metric of a method, with numbers."""
        return pd.DataFrame(
            [
                {
                    "experiment": row.experiment,
                    "method": row.method,
                    "metric": row.metric,
                    "a": row.a.mean,
                    "a_seeds": row.a.n,
                    "b": row.b.mean,
                    "b_seeds": row.b.n,
                    "difference": row.difference.mean,
                    "half_width": row.difference.half_width,
                    "paired_seeds": " ".join(map(str, row.seeds)),
                    "verdict": row.verdict,
                }
                for row in self.rows
            ]
        )

    def markdown(self) -> str:
        """GitHub Markdown: the differences in how they were made, then a table an experiment."""
        lines = [f"A: {escape(str(self.a))}; B: {escape(str(self.b))}", ""]
        if self.differences:
            lines += ["What differs in configuration and environment:", ""]
            lines += [f"- {escape(text)}" for text in self.differences]
        else:
            lines.append("Configuration and environment are the same in what both tell.")
        for experiment in dict.fromkeys(row.experiment for row in self.rows):
            rows = [_entries(row) for row in self.rows if row.experiment == experiment]
            lines += ["", f"### {escape(experiment)}", "", table(HEADINGS, rows, "llrrrll")]
        lines += [
            "",
            "A and B: means over all seeds of each. B − A: the mean over the seeds that both have,"
            " paired, ± half-width of its 95 % Student-t interval over seeds (of two seeds: both"
            " differences); unpaired (Welch) where no seed is common.",
            "Not significantly different: the 95 % interval contains 0; it needs three seeds. One"
            " in twenty comparisons of equals is significant by chance.",
        ]
        return "\n".join(lines) + "\n"


def _entries(row: Row) -> list[str]:
    digits = METRICS[row.key].digits
    digits = 3 if digits is None else digits
    if row.seeds:
        seeds = ", ".join(map(str, row.seeds))
    else:
        seeds = f"unpaired ({row.a.n} and {row.b.n})" if row.difference.n else MISSING
    return [
        escape(row.method),
        escape(row.metric),
        number(row.a.mean, digits),
        number(row.b.mean, digits),
        with_interval(row.difference, digits, signed=True),
        seeds,
        row.verdict,
    ]


def compare(a: Path, b: Path) -> Comparison:
    """Set two reports or run folders side by side; a WashBenchError if nothing can be compared."""
    left, right = pairing.read_side(a), pairing.read_side(b)
    result = Comparison(a, b, [*left.problems, *right.problems])
    pairs = list(pairing.experiments(left.cells, right.cells))
    if not pairs:
        raise WashBenchError(
            f"{a} and {b} have no experiment in common (data set, model and N): nothing to compare"
        )
    matched: tuple[set[str], set[str]] = (set(), set())
    for one, other in pairs:
        one, other = without_copies(one), without_copies(other)
        matched[0].add(one["experiment_id"].iloc[0])
        matched[1].add(other["experiment_id"].iloc[0])
        title = f"{one['dataset'].iloc[0]}, {one['model'].iloc[0]}, N = {one['population'].iloc[0]}"
        if len(pairs) > 1:
            title += f" ({one['experiment_id'].iloc[0]})"
        prefix = f"{title}: " if len(pairs) > 1 else ""
        told = list(pairing.unequal(left, one, right, other))
        for name_a, name_b, told_options in pairing.variants(one, other):
            told += told_options
            if name_a is None or name_b is None:
                continue
            result.rows += _rows(
                title,
                name_a if name_a == name_b else f"{name_a} / {name_b}",
                one[one["variant"] == name_a],
                other[other["variant"] == name_b],
            )
        result.differences += [prefix + text for text in told]
    for side, name, seen in ((left, "A", matched[0]), (right, "B", matched[1])):
        for experiment in side.cells["experiment_id"].unique():
            if experiment not in seen:
                result.differences.append(f"only in {name}: experiment {experiment}")
    return result


def _rows(title: str, method: str, a: pd.DataFrame, b: pd.DataFrame) -> Iterator[Row]:
    for key in COMPARED:
        left, right = _values(a, key), _values(b, key)
        if not left and not right:
            continue
        common = tuple(sorted(left.keys() & right.keys()))
        difference = paired(right, left) if common else _unpaired(left, right)
        yield Row(
            title,
            method,
            key,
            estimate(left.values()),
            estimate(right.values()),
            difference,
            common,
        )


def _values(cells: pd.DataFrame, key: str) -> dict[int, float]:
    """The values by seed, in the metric's unit."""
    found = by_seed(cells[cells["status"] == "finished"], key)
    return {seed: value / METRICS[key].per for seed, value in found.items()}


def _unpaired(a: Mapping[int, float], b: Mapping[int, float]) -> Estimate:
    """B - A of two independent samples, with Welch's interval where both have enough values."""
    if not a or not b:
        return Estimate(math.nan, None, None, 0)
    one, other = estimate(a.values()), estimate(b.values())
    mean, n = other.mean - one.mean, min(one.n, other.n)
    if one.std is None or other.std is None or n < ENOUGH:
        return Estimate(mean, None, None, 1)
    if one.std == other.std == 0:
        return Estimate(mean, None, 0.0, n)
    from scipy.stats import ttest_ind

    test = ttest_ind(list(b.values()), list(a.values()), equal_var=False)
    low, high = test.confidence_interval(LEVEL)
    return Estimate(mean, None, float(high - low) / 2, n)
