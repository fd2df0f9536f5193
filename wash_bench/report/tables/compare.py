"""Compare two reports: match their experiments and methods, and test the differences."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from wash_bench.errors import UsageError, WashBenchError
from wash_bench.metrics import COMPARED, METRICS
from wash_bench.report.numbers.diagnosis import without_copies
from wash_bench.report.numbers.machines import COMPARED as ENVIRONMENT
from wash_bench.report.numbers.stats import ENOUGH, LEVEL, Estimate, by_seed, estimate, paired
from wash_bench.report.read.columns import LATER_SETTING_COLUMNS, SETTING_COLUMNS
from wash_bench.report.tables.markdown import escape
from wash_bench.report.tables.table import (
    MISSING,
    Column,
    build_table,
    format_fixed,
    with_interval,
)

if TYPE_CHECKING:
    from wash_bench.report.read.frames import Records


@dataclass(frozen=True)
class Row:
    """A metric of both reports; the difference is B - A, paired over ``seeds`` or of the means."""

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
            rows = [row for row in self.rows if row.experiment == experiment]
            body = build_table(experiment, rows, COLUMNS).body()
            lines += ["", f"### {escape(experiment)}", "", body]
        lines += [
            "",
            "A and B: means over all seeds of each. B − A: the mean over the seeds that both have,"
            " paired, ± half-width of its 95 % Student-t interval over seeds (of two seeds: both"
            " differences); unpaired (Welch) where no seed is common.",
            "Not significantly different: the 95 % interval contains 0; it needs three seeds. One"
            " in twenty comparisons of equals is significant by chance.",
        ]
        return "\n".join(lines) + "\n"


def _digits(row: Row) -> int:
    digits = METRICS[row.key].digits
    return 3 if digits is None else digits


def _seeds(row: Row) -> str:
    if row.seeds:
        return ", ".join(map(str, row.seeds))
    return f"unpaired ({row.a.n} and {row.b.n})" if row.difference.n else MISSING


COLUMNS: tuple[Column[Row], ...] = (
    Column("method", lambda row: row.method, right=False),
    Column("metric", lambda row: row.metric, right=False),
    Column("A", lambda row: format_fixed(row.a.mean, _digits(row))),
    Column("B", lambda row: format_fixed(row.b.mean, _digits(row))),
    Column("B − A", lambda row: with_interval(row.difference, _digits(row), signed=True)),
    Column("seeds", _seeds, right=False),
    Column("verdict", lambda row: row.verdict, right=False),
)


def compare(a: Path, b: Path) -> Comparison:
    """Set two reports or run folders side by side; a WashBenchError if nothing can be compared."""
    left, right = read_side(a), read_side(b)
    result = Comparison(a, b, [*left.problems, *right.problems])
    pairs = list(match_experiments(left.cells, right.cells))
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
        made = list(differences(left, one, right, other))
        for name_a, name_b, options in match_variants(one, other):
            made += options
            if name_a is None or name_b is None:
                continue
            result.rows += _rows(
                title,
                name_a if name_a == name_b else f"{name_a} / {name_b}",
                one[one["variant"] == name_a],
                other[other["variant"] == name_b],
            )
        result.differences += [prefix + text for text in made]
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


_NEEDED = {"experiment_id", "training_id", "dataset", "model", "population"}
_NEEDED |= {"method", "variant", "seed", "status"}


@dataclass(frozen=True)
class ReportSide:
    """One of the two: the rows of its cells and of its trainings' environments."""

    path: Path
    cells: pd.DataFrame
    environments: pd.DataFrame
    problems: tuple[str, ...] = ()


def read_side(path: Path) -> ReportSide:
    """A report's tables, or the records of a run folder; UsageError if it is neither."""
    if not path.is_dir():
        raise UsageError(f"no folder {path}: give a report or a run folder")
    if not (path / "summary.csv").is_file():
        from wash_bench.report.read.frames import load

        records: Records = load([path])
        return ReportSide(path, records.summary, records.environments)
    try:
        cells = _read(path / "summary.csv")
        environments = pd.DataFrame()
        if (path / "environment.csv").is_file():
            environments = _read(path / "environment.csv")
    except (ValueError, OSError) as error:
        raise UsageError(f"{path} holds no report that can be read: {error}") from None
    if lacking := _NEEDED - set(cells.columns):
        raise UsageError(f"{path / 'summary.csv'} lacks {', '.join(sorted(lacking))}: no report")
    return ReportSide(path, cells, environments, tuple(_to_numbers(path / "summary.csv", cells)))


def _read(path: Path) -> pd.DataFrame:
    """Read a report's table; a method may be called null, or true."""
    texts = dict.fromkeys(("experiment_id", "method", "variant", "dataset", "model"), str)
    return pd.read_csv(path, keep_default_na=False, na_values=[""], dtype=texts)


def _to_numbers(path: Path, cells: pd.DataFrame) -> Iterator[str]:
    """Make the columns of metrics numbers, in place; what is none is named and left out."""
    for name in cells.columns:
        if name in METRICS and METRICS[name].unit != "text":
            numbers = pd.to_numeric(cells[name], errors="coerce").astype(float)
            odd = cells.loc[numbers.isna() & cells[name].notna(), name]
            if len(odd):
                yield f"{path}: {name} is {str(odd.iloc[0])[:40]!r}, which is no number, left out"
            cells[name] = numbers


def match_experiments(
    a: pd.DataFrame, b: pd.DataFrame
) -> Iterator[tuple[pd.DataFrame, pd.DataFrame]]:
    """Experiments that belong together: the same, else the only ones of a data set and model."""
    # Records of two versions may have different identities though they ask the same question.
    left = dict(list(a.groupby("experiment_id", sort=False)))
    right = dict(list(b.groupby("experiment_id", sort=False)))
    for name in [name for name in left if name in right]:
        yield left.pop(name), right.pop(name)
    kinds = ["dataset", "model", "population"]
    for rows in list(left.values()):
        kind = rows[kinds].iloc[0].tolist()
        own = [rows for rows in left.values() if rows[kinds].iloc[0].tolist() == kind]
        others = [rows for rows in right.values() if rows[kinds].iloc[0].tolist() == kind]
        if len(own) == len(others) == 1:
            yield own[0], others[0]


def differences(
    a: ReportSide, cells_a: pd.DataFrame, b: ReportSide, cells_b: pd.DataFrame
) -> Iterator[str]:
    """Say in sentences how settings and environment of one experiment differ on both sides."""
    yield from _settings(cells_a, cells_b)
    yield from _environments(a, cells_a, b, cells_b)


def _settings(a: pd.DataFrame, b: pd.DataFrame) -> Iterator[str]:
    found = False
    for name in ("preset", *SETTING_COLUMNS, *LATER_SETTING_COLUMNS):
        default = LATER_SETTING_COLUMNS.get(name)
        one, other = _setting(a, name, default), _setting(b, name, default)
        if one != other:
            found = found or name != "preset"
            yield f"{name.replace('_', '-')}: {one} in A, {other} in B"
    one, other = a["experiment_id"].iloc[0], b["experiment_id"].iloc[0]
    if one != other and not found:
        yield (
            f"experiment {one} in A, {other} in B: they differ in something that summary.csv does"
            " not show, as the evaluation or the content of the data"
        )


def _setting(cells: pd.DataFrame, name: str, default: Any) -> str:
    value = cells[name].iloc[0] if name in cells else default
    missing = value is None or (isinstance(value, float) and math.isnan(value))
    return _plain(default if missing else value)


def _plain(value: Any) -> str:
    return f"{value:g}" if isinstance(value, int | float) else str(value)


def _environments(
    a: ReportSide, cells_a: pd.DataFrame, b: ReportSide, cells_b: pd.DataFrame
) -> Iterator[str]:
    for key, name in ENVIRONMENT.items():
        one, other = (_facts(a, cells_a, key), _facts(b, cells_b, key))
        if one and other and one != other:
            yield f"{name}: {' and '.join(sorted(one))} in A, {' and '.join(sorted(other))} in B"


def _facts(side: ReportSide, cells: pd.DataFrame, key: str) -> set[str]:
    rows = side.environments
    if key not in rows or "training_id" not in rows:
        return set()
    values = rows.loc[rows["training_id"].isin(cells["training_id"]), key].dropna()
    return {_plain(value) for value in values} - {""}


def match_variants(
    a: pd.DataFrame, b: pd.DataFrame
) -> Iterator[tuple[str | None, str | None, list[str]]]:
    """Rows that belong together, and what is to be said of their options."""
    left, right = _options(a), _options(b)
    for name, (method, options) in list(left.items()):
        same = [other for other, known in right.items() if known == (method, options)]
        if same:
            del left[name], right[same[0]]
            yield name, same[0], []
    for name, (method, options) in list(left.items()):
        own = [other for other, known in left.items() if known[0] == method]
        others = [other for other, known in right.items() if known[0] == method]
        if len(own) == len(others) == 1:
            del left[name]
            there = right.pop(others[0])[1]
            options_differ = [
                f"{method}: {key}={json.dumps(options.get(key))} in A,"
                f" {key}={json.dumps(there.get(key))} in B"
                for key in sorted(options.keys() | there.keys())
                if options.get(key) != there.get(key)
            ]
            yield name, others[0], options_differ
    for name in left:
        yield name, None, [f"only in A: {name}"]
    for name in right:
        yield None, name, [f"only in B: {name}"]


def _options(cells: pd.DataFrame) -> dict[str, tuple[str, dict[str, Any]]]:
    found = {}
    for variant, rows in cells.groupby("variant", sort=False):
        text = rows["options"].iloc[0] if "options" in rows else ""
        options = json.loads(text) if isinstance(text, str) and text else {}
        found[variant] = (rows["method"].iloc[0], options)
    return found
