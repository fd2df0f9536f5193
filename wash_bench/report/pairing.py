"""Two reports side by side: what differs in how they were made, and whether the numbers do."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from wash_bench.errors import UsageError, WashBenchError
from wash_bench.report import notes
from wash_bench.report.columns import LATER_SETTINGS, SETTINGS
from wash_bench.report.side_by_side import METRICS, Comparison, Row
from wash_bench.report.stats import LEVEL, Estimate, estimate, paired

if TYPE_CHECKING:
    from wash_bench.report.frames import Records

_NEEDED = {"experiment_id", "dataset", "model", "population", "method", "variant", "seed", "status"}


@dataclass(frozen=True)
class Side:
    """One of the two: the rows of its cells and of its trainings' environments."""

    path: Path
    cells: pd.DataFrame
    environments: pd.DataFrame


def compare(a: Path, b: Path) -> Comparison:
    """Set two reports or run folders side by side.

    Args:
        a: a folder that ``wash-bench report`` or ``wash-bench run`` wrote, or one of run folders.
        b: the same.

    Raises:
        UsageError: one of them is no folder or holds neither.
        WashBenchError: nothing in them can be compared.
    """
    left, right = read_side(a), read_side(b)
    result = Comparison(a, b)
    pairs = list(_pairs(left.cells, right.cells))
    if not pairs:
        raise WashBenchError(
            f"{a} and {b} have no experiment in common (data set, model and N): nothing to compare"
        )
    matched: tuple[set[str], set[str]] = (set(), set())
    for one, other in pairs:
        matched[0].add(one["experiment_id"].iloc[0])
        matched[1].add(other["experiment_id"].iloc[0])
        title = f"{one['dataset'].iloc[0]}, {one['model'].iloc[0]}, N = {one['population'].iloc[0]}"
        if len(pairs) > 1:
            title += f" ({one['experiment_id'].iloc[0]})"
        prefix = f"{title}: " if len(pairs) > 1 else ""
        told = [*_settings(one, other), *_environments(left, one, right, other)]
        for name_a, name_b, told_options in _variants(one, other):
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


def read_side(path: Path) -> Side:
    """A report's tables, or the records of a run folder.

    Raises:
        UsageError: it is neither.
    """
    if not path.is_dir():
        raise UsageError(f"no folder {path}: give a report or a run folder")
    if not (path / "summary.csv").is_file():
        from wash_bench.report.frames import load

        records: Records = load([path])
        return Side(path, records.summary, records.environments)
    try:
        cells = pd.read_csv(path / "summary.csv")
        environments = pd.DataFrame()
        if (path / "environment.csv").is_file():
            environments = pd.read_csv(path / "environment.csv")
    except (ValueError, OSError) as error:
        raise UsageError(f"{path} holds no report that can be read: {error}") from None
    if lacking := _NEEDED - set(cells.columns):
        raise UsageError(f"{path / 'summary.csv'} lacks {', '.join(sorted(lacking))}: no report")
    return Side(path, cells, environments)


def _pairs(a: pd.DataFrame, b: pd.DataFrame) -> Iterator[tuple[pd.DataFrame, pd.DataFrame]]:
    """Experiments that belong together: the same one, else the only ones of a data set and model.

    Records of two versions may have different identities though they ask the same question.
    """
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


def _settings(a: pd.DataFrame, b: pd.DataFrame) -> Iterator[str]:
    found = False
    for name in ("preset", *SETTINGS, *LATER_SETTINGS):
        default = LATER_SETTINGS.get(name)
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


def _environments(a: Side, cells_a: pd.DataFrame, b: Side, cells_b: pd.DataFrame) -> Iterator[str]:
    for key, name in notes.COMPARED.items():
        one, other = (_facts(a, cells_a, key), _facts(b, cells_b, key))
        if one and other and one != other:
            yield f"{name}: {' and '.join(sorted(one))} in A, {' and '.join(sorted(other))} in B"


def _facts(side: Side, cells: pd.DataFrame, key: str) -> set[str]:
    rows = side.environments
    if key not in rows or "training_id" not in rows:
        return set()
    values = rows.loc[rows["training_id"].isin(cells["training_id"]), key].dropna()
    return {_plain(value) for value in values} - {""}


def _variants(
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
            told = [
                f"{method}: {key}={json.dumps(options.get(key))} in A,"
                f" {key}={json.dumps(there.get(key))} in B"
                for key in sorted(options.keys() | there.keys())
                if options.get(key) != there.get(key)
            ]
            yield name, others[0], told
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


def _rows(title: str, method: str, a: pd.DataFrame, b: pd.DataFrame) -> Iterator[Row]:
    for column, (name, _, divisor) in METRICS.items():
        left, right = _by_seed(a, column, divisor), _by_seed(b, column, divisor)
        if not left and not right:
            continue
        common = tuple(sorted(left.keys() & right.keys()))
        difference = paired(right, left) if common else _unpaired(left, right)
        yield Row(
            title,
            method,
            name,
            estimate(left.values()),
            estimate(right.values()),
            difference,
            common,
        )


def _by_seed(cells: pd.DataFrame, column: str, divisor: float) -> dict[int, float]:
    if column not in cells:
        return {}
    rows = cells[(cells["status"] == "finished") & cells[column].notna()]
    return {
        int(seed): float(value) / divisor
        for seed, value in zip(rows["seed"], rows[column], strict=True)
    }


def _unpaired(a: Mapping[int, float], b: Mapping[int, float]) -> Estimate:
    """B - A of two independent samples, with Welch's interval where both have two values."""
    if not a or not b:
        return Estimate(math.nan, None, None, 0)
    one, other = estimate(a.values()), estimate(b.values())
    mean, n = other.mean - one.mean, min(one.n, other.n)
    if one.std is None or other.std is None:
        return Estimate(mean, None, None, n)
    if one.std == other.std == 0:
        return Estimate(mean, None, 0.0, n)
    from scipy.stats import ttest_ind

    test = ttest_ind(list(b.values()), list(a.values()), equal_var=False)
    low, high = test.confidence_interval(LEVEL)
    return Estimate(mean, None, float(high - low) / 2, n)
