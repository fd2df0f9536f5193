"""Run folders in, pandas frames out: the one place where a report touches the records."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from wash_bench.config import fingerprint
from wash_bench.errors import UsageError, WashBenchError
from wash_bench.record.files import digest_of
from wash_bench.record.folders import run_folders
from wash_bench.report import read
from wash_bench.report.columns import (
    BARRIER_FIELDS,
    CORRUPTION_FIELDS,
    EVENT_FIELDS,
    SIMPLEX_FIELDS,
    TRAINING,
)
from wash_bench.report.shown import Shown
from wash_bench.report.summary import summary_frame

_OF_SIMPLEX = (*TRAINING, "experiment_id", *SIMPLEX_FIELDS)
_OF_CORRUPTION = (*TRAINING, "experiment_id", *CORRUPTION_FIELDS)
# What a training has a file of for each evaluation that asked for it: the setting, the reader.
_MORE = {
    "simplex": ("simplex_points", read.simplex),
    "corruption": ("corruptions", read.corruption),
}


@dataclass
class Records:
    """All that the reports are made of.

    Attributes:
        summary: a row a cell, as ``summary.summary_frame`` makes it.
        events: a row an event, ``columns.TRAINING`` and step, epoch, member, metric, value.
        barrier: a row a point of a segment, ``columns.TRAINING``, experiment_id and
            ``columns.BARRIER_FIELDS``.
        simplex: a row a point of a triangle, led as ``barrier``, ``columns.SIMPLEX_FIELDS``.
        corruption: a row a network and corruption, led as ``barrier``,
            ``columns.CORRUPTION_FIELDS``.
        environments: a row a training.
        evaluations: evaluation settings by experiment id.
        configs: the resolved configuration of one of its cells by experiment id.
        warnings: what could not be read, naming the file.
        shown: what the reader chose.
    """

    summary: pd.DataFrame
    events: pd.DataFrame
    barrier: pd.DataFrame
    environments: pd.DataFrame
    evaluations: dict[str, dict[str, Any]] = field(default_factory=dict)
    configs: dict[str, dict[str, Any]] = field(default_factory=dict)
    simplex: pd.DataFrame = field(default_factory=lambda: _concat([], _OF_SIMPLEX))
    corruption: pd.DataFrame = field(default_factory=lambda: _concat([], _OF_CORRUPTION))
    warnings: list[str] = field(default_factory=list)
    shown: Shown = field(default_factory=Shown)

    def experiments(self) -> Iterator[tuple[str, pd.DataFrame]]:
        """Each experiment's id and its rows of the summary, in the summary's order."""
        for name, cells in self.summary.groupby("experiment_id", sort=False):
            yield str(name), cells

    def environments_of(self, cells: pd.DataFrame) -> pd.DataFrame:
        """The environments of the trainings of these rows of the summary."""
        rows = self.environments
        if "training_id" not in rows:
            return rows
        return rows[rows["training_id"].isin(cells["training_id"])]


def load(roots: Sequence[Path]) -> Records:
    """All records in run folders; what is broken becomes a warning, no record an error."""
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

    summary = summary_frame(list(cells.values()))
    for name in sorted(set(trainings) - set(summary["training_id"])):
        warnings.append(f"{trainings[name]}: training without a cell (unfinished), left out")
    evaluations = {cell["experiment_id"]: cell["config"]["evaluation"] for cell in cells.values()}
    events, barriers, environments = [], [], []
    more: dict[str, list[pd.DataFrame]] = {name: [] for name in _MORE}
    unlogged: list[Path] = []
    heads = _heads(summary)
    for head in heads:
        folder = trainings.get(head["training_id"])
        if folder is None:
            warnings.append(f"training {head['training_id']}: its folder is missing")
            continue
        log = folder / "events.jsonl"
        keys = {id_: fingerprint(evaluations[id_]) for id_ in head["experiments"]}
        head["sha256"] = read.digests(folder, list(keys.values()))
        if head["finished"] and not log.exists():
            unlogged.append(log)
        else:
            events.append(_of(head, log, read.events, warnings))
        for experiment_id in head["experiments"]:
            path = folder / f"barrier-{keys[experiment_id]}.csv"
            if not path.exists() and (folder / "barrier.csv").exists():
                path = folder / "barrier.csv"
            frame = _of(head, path, read.barrier, warnings)
            frame.insert(len(TRAINING), "experiment_id", experiment_id)
            barriers.append(frame)
            for name, (setting, reader) in _MORE.items():
                if evaluations[experiment_id].get(setting):
                    path = folder / f"{name}-{keys[experiment_id]}.csv"
                    frame = _of(head, path, reader, warnings)
                    frame.insert(len(TRAINING), "experiment_id", experiment_id)
                    more[name].append(frame)
        environment = {name: head[name] for name in TRAINING}
        try:
            environment |= read.json_object(folder / "environment.json")
        except read.BrokenRecord as problem:
            if head["finished"] or (folder / "environment.json").exists():
                warnings.append(f"{folder / 'environment.json'}: {problem}, left out")
        environments.append(environment)
    if unlogged:
        warnings.insert(0, _without_log(unlogged, len(heads)))
    return Records(
        summary=summary,
        events=_concat(events, (*TRAINING, *EVENT_FIELDS)),
        barrier=_concat(barriers, (*TRAINING, "experiment_id", *BARRIER_FIELDS)),
        simplex=_concat(more["simplex"], _OF_SIMPLEX),
        corruption=_concat(more["corruption"], _OF_CORRUPTION),
        environments=pd.DataFrame(environments),
        evaluations=evaluations,
        configs={cell["experiment_id"]: cell["config"] for cell in cells.values()},
        warnings=warnings,
    )


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


def _without_log(logs: list[Path], trainings: int) -> str:
    """One line, however many they are: committed records leave the logs out, which are large."""
    many = "has no event log" if len(logs) == 1 else "have no event log"
    more = ", ..." if len(logs) > 1 else ""
    return (
        f"{len(logs)} of {trainings} trainings {many} ({logs[0]}{more}): events.csv and the figures"
        " training and consensus are without them"
    )


def _of(
    head: dict[str, Any],
    path: Path,
    reader: Callable[[Path], tuple[pd.DataFrame, list[str]]],
    warnings: list[str],
) -> pd.DataFrame:
    """A file of one training, led by the columns that say whose it is."""
    if not path.exists() and not head["finished"]:
        return pd.DataFrame(columns=list(TRAINING))  # a failed cell may lack it
    written = head["sha256"].get(path.name)
    if written and path.is_file() and digest_of(path) != written:
        warnings.append(f"{path}: its bytes are not those that were written, left out")
        return pd.DataFrame(columns=list(TRAINING))
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
