"""Run folders in, pandas frames out: the one place where a report touches the records."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from wash_bench.config import DEFAULT_METHODS, fingerprint
from wash_bench.errors import UsageError, WashBenchError
from wash_bench.record.folders import run_folders
from wash_bench.report import read
from wash_bench.report.columns import (
    BARRIER_FIELDS,
    EVENT_FIELDS,
    IDENTITY,
    LATER_SETTINGS,
    METRICS,
    PROVENANCE,
    SETTINGS,
    SIMPLEX_FIELDS,
    TEXT_METRICS,
    TRAINING,
)
from wash_bench.report.variants import name_variants
from wash_bench.settings.coupling import in_words

_OF_SIMPLEX = (*TRAINING, "experiment_id", *SIMPLEX_FIELDS)


@dataclass
class Records:
    """All that the reports are made of.

    Attributes:
        summary: a row a cell, the columns of ``columns.SUMMARY`` and any further metric.
        events: a row an event, ``columns.TRAINING`` and step, epoch, member, metric, value.
        barrier: a row a point of a segment, ``columns.TRAINING``, experiment_id and
            ``columns.BARRIER_FIELDS``.
        simplex: a row a point of a triangle, led as ``barrier``, ``columns.SIMPLEX_FIELDS``.
        environments: a row a training.
        evaluations: evaluation settings by experiment id.
        configs: the resolved configuration of one of its cells by experiment id.
        warnings: what could not be read, naming the file.
    """

    summary: pd.DataFrame
    events: pd.DataFrame
    barrier: pd.DataFrame
    environments: pd.DataFrame
    evaluations: dict[str, dict[str, Any]] = field(default_factory=dict)
    configs: dict[str, dict[str, Any]] = field(default_factory=dict)
    simplex: pd.DataFrame = field(default_factory=lambda: _concat([], _OF_SIMPLEX))
    warnings: list[str] = field(default_factory=list)

    def experiments(self) -> Iterator[tuple[str, pd.DataFrame]]:
        """Each experiment's id and its rows of the summary, in the summary's order."""
        yield from self.summary.groupby("experiment_id", sort=False)


def load(roots: Sequence[Path]) -> Records:
    """Read every record under ``roots``: run folders, or folders that hold run folders.

    Raises:
        UsageError: a root is not a folder.
        WashBenchError: a root holds no record, or none that can be read.
    """
    warnings: list[str] = []
    cells: dict[str, dict[str, Any]] = {}
    trainings: dict[str, Path] = {}
    if not roots:
        raise UsageError("no folder to report on: give one that 'wash-bench run --out' wrote")
    for root in map(Path, roots):
        folders = run_folders(root)
        found = 0
        problems = []
        for folder in folders:
            for path in sorted((folder / "cells").glob("*.json")):
                try:
                    data = read.cell(path)
                except read.BrokenRecord as problem:
                    problems.append(f"{path}: {problem}, left out")
                    continue
                found += 1
                if data["cell_id"] in cells:
                    warnings.append(f"{path}: this cell was read before, left out")
                    continue
                cells[data["cell_id"]] = data
            for path in sorted(p for p in (folder / "trainings").glob("*") if p.is_dir()):
                trainings.setdefault(path.name, path)
        if not found:
            if problems:
                raise WashBenchError(f"no record can be read: {problems[0]}")
            raise WashBenchError(
                f"no finished cell in {root}: give a folder that 'wash-bench run --out' wrote"
            )
        warnings += problems

    summary = _summary(list(cells.values()))
    for name in sorted(set(trainings) - set(summary["training_id"])):
        warnings.append(f"{trainings[name]}: training without a cell (unfinished), left out")
    evaluations = {cell["experiment_id"]: cell["config"]["evaluation"] for cell in cells.values()}
    events, barriers, simplices, environments = [], [], [], []
    for head in _heads(summary):
        folder = trainings.get(head["training_id"])
        if folder is None:
            warnings.append(f"training {head['training_id']}: its folder is missing")
            continue
        events.append(_of(head, folder / "events.jsonl", read.events, warnings))
        for experiment_id in head["experiments"]:
            path = folder / f"barrier-{fingerprint(evaluations[experiment_id])}.csv"
            if not path.exists() and (folder / "barrier.csv").exists():
                path = folder / "barrier.csv"
            frame = _of(head, path, read.barrier, warnings)
            frame.insert(len(TRAINING), "experiment_id", experiment_id)
            barriers.append(frame)
            if evaluations[experiment_id].get("simplex_points"):
                path = folder / f"simplex-{fingerprint(evaluations[experiment_id])}.csv"
                frame = _of(head, path, read.simplex, warnings)
                frame.insert(len(TRAINING), "experiment_id", experiment_id)
                simplices.append(frame)
        environment = {name: head[name] for name in TRAINING}
        try:
            environment |= read.json_object(folder / "environment.json")
        except read.BrokenRecord as problem:
            if head["finished"] or (folder / "environment.json").exists():
                warnings.append(f"{folder / 'environment.json'}: {problem}, left out")
        environments.append(environment)
    return Records(
        summary=summary,
        events=_concat(events, (*TRAINING, *EVENT_FIELDS)),
        barrier=_concat(barriers, (*TRAINING, "experiment_id", *BARRIER_FIELDS)),
        simplex=_concat(simplices, _OF_SIMPLEX),
        environments=pd.DataFrame(environments),
        evaluations=evaluations,
        configs={cell["experiment_id"]: cell["config"] for cell in cells.values()},
        warnings=warnings,
    )


def _summary(cells: list[dict[str, Any]]) -> pd.DataFrame:
    known = set(METRICS)
    further = sorted({name for cell in cells for name in cell["summary"]} - known)
    rows = []
    for cell in cells:
        config = cell["config"]
        training = config["training"]
        rows.append(
            {
                "preset": config.get("preset", ""),
                "dataset": training.get("dataset", ""),
                "model": training.get("model", ""),
                "method": cell["method"],
                "seed": cell["seed"],
                "population": training.get("population"),
                "status": cell["status"],
                **{name: training.get(name) for name in SETTINGS},
                **{name: _later(name, training) for name in LATER_SETTINGS},
                "coupling": _coupling(config, cell["method"]),
                **{name: _plain(name, cell["summary"].get(name)) for name in METRICS},
                **{name: _plain(name, cell["summary"].get(name)) for name in further},
                "variant": cell["method"],
                "options": json.dumps(cell["options"], sort_keys=True),
                "reason": " ".join((cell.get("reason") or "").split()),
                "experiment_id": cell["experiment_id"],
                "training_id": cell["training_id"],
                "cell_id": cell["cell_id"],
            }
        )
    later = [
        name
        for name, default in LATER_SETTINGS.items()
        if any(row[name] != default for row in rows)
    ]
    if any(row["coupling"] for row in rows):
        later.append("coupling")
    columns = [*IDENTITY, *SETTINGS, *later, *METRICS, *further, *PROVENANCE]
    frame = pd.DataFrame(rows, columns=columns)
    for name in METRICS:
        if name not in TEXT_METRICS:
            frame[name] = pd.to_numeric(frame[name], errors="coerce").astype(float)
    name_variants(frame, cells)
    order = {name: place for place, name in enumerate(DEFAULT_METHODS)}
    frame["_place"] = frame["method"].map(lambda name: order.get(name, len(order)))
    keys = ["preset", "dataset", "model", "population", "experiment_id", "_place", "variant"]
    return (frame.sort_values([*keys, "seed", "cell_id"], kind="stable", ignore_index=True)).drop(
        columns="_place"
    )


def _coupling(config: dict[str, Any], method: str) -> str:
    """What ``--coupling-budget paper`` made of the papers' setting; empty without it."""
    record = (config.get("coupling") or {}).get(method)
    return in_words(record) if record else ""


def _later(name: str, training: dict[str, Any]) -> Any:
    """A setting of a later version; the grid of hyperparameters as the command line takes it."""
    value = training.get(name) or LATER_SETTINGS[name]
    if isinstance(value, dict):
        return " ".join(f"{key}={','.join(f'{v:g}' for v in grid)}" for key, grid in value.items())
    return value


def _plain(name: str, value: Any) -> Any:
    """A list (the soup's members) as text that a CSV cell can hold."""
    if isinstance(value, list | tuple):
        return " ".join(map(str, value))
    if isinstance(value, dict):
        return json.dumps(value, sort_keys=True)
    return str(value) if name in TEXT_METRICS and value is not None else value


def _heads(summary: pd.DataFrame) -> list[dict[str, Any]]:
    """The leading columns of every training's events, and whether it should be complete."""
    heads = []
    for training_id, rows in summary.groupby("training_id", sort=False):
        first = rows.iloc[0]
        heads.append(
            {name: first[name] for name in ("dataset", "model", "seed", "population")}
            | {
                "training_id": training_id,
                "methods": ";".join(rows["method"].unique()),
                "experiments": rows["experiment_id"].unique().tolist(),
                "finished": bool((rows["status"] == "finished").any()),
            }
        )
    return heads


def _of(
    head: dict[str, Any],
    path: Path,
    reader: Callable[[Path], tuple[pd.DataFrame, list[str]]],
    warnings: list[str],
) -> pd.DataFrame:
    """A file of one training, led by the columns that say whose it is."""
    if not path.exists() and not head["finished"]:
        return pd.DataFrame(columns=list(TRAINING))  # a failed cell may lack it
    frame, problems = reader(path)
    warnings += problems
    for position, name in enumerate(TRAINING):
        frame.insert(position, name, head[name])
    return frame


def _concat(frames: list[pd.DataFrame], columns: Sequence[str]) -> pd.DataFrame:
    whole = [frame for frame in frames if len(frame)]
    if not whole:
        return pd.DataFrame(columns=list(columns))
    return pd.concat(whole, ignore_index=True)
