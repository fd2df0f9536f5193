"""Two reports: which experiments and methods belong together, and how their making differs."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from wash_bench.errors import UsageError
from wash_bench.metrics import METRICS
from wash_bench.report.numbers.machines import COMPARED
from wash_bench.report.read.columns import LATER_SETTINGS, SETTINGS

if TYPE_CHECKING:
    from wash_bench.report.read.frames import Records

_NEEDED = {
    "experiment_id",
    "training_id",
    "dataset",
    "model",
    "population",
    "method",
    "variant",
    "seed",
    "status",
}


@dataclass(frozen=True)
class Side:
    """One of the two: the rows of its cells and of its trainings' environments."""

    path: Path
    cells: pd.DataFrame
    environments: pd.DataFrame
    problems: tuple[str, ...] = ()


def read_side(path: Path) -> Side:
    """A report's tables, or the records of a run folder; UsageError if it is neither."""
    if not path.is_dir():
        raise UsageError(f"no folder {path}: give a report or a run folder")
    if not (path / "summary.csv").is_file():
        from wash_bench.report.read.frames import load

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
    return Side(path, cells, environments, tuple(_to_numbers(path / "summary.csv", cells)))


def _to_numbers(path: Path, cells: pd.DataFrame) -> Iterator[str]:
    """Make the columns of metrics numbers, in place; what is none is named and left out."""
    for name in cells.columns:
        if name in METRICS and METRICS[name].unit != "text":
            numbers = pd.to_numeric(cells[name], errors="coerce").astype(float)
            odd = cells.loc[numbers.isna() & cells[name].notna(), name]
            if len(odd):
                yield f"{path}: {name} is {str(odd.iloc[0])[:40]!r}, which is no number, left out"
            cells[name] = numbers


def experiments(a: pd.DataFrame, b: pd.DataFrame) -> Iterator[tuple[pd.DataFrame, pd.DataFrame]]:
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


def unequal(a: Side, cells_a: pd.DataFrame, b: Side, cells_b: pd.DataFrame) -> Iterator[str]:
    """Say in sentences how settings and environment of one experiment differ on both sides."""
    yield from _settings(cells_a, cells_b)
    yield from _environments(a, cells_a, b, cells_b)


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
    for key, name in COMPARED.items():
        one, other = (_facts(a, cells_a, key), _facts(b, cells_b, key))
        if one and other and one != other:
            yield f"{name}: {' and '.join(sorted(one))} in A, {' and '.join(sorted(other))} in B"


def _facts(side: Side, cells: pd.DataFrame, key: str) -> set[str]:
    rows = side.environments
    if key not in rows or "training_id" not in rows:
        return set()
    values = rows.loc[rows["training_id"].isin(cells["training_id"]), key].dropna()
    return {_plain(value) for value in values} - {""}


def variants(
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
