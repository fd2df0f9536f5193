"""Run folders in, pandas frames out: the one place where a report touches the records."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from wash_bench.config import fingerprint
from wash_bench.errors import UsageError, WashBenchError, nearest
from wash_bench.files import digest_of
from wash_bench.record.folders import run_folders
from wash_bench.report.options import ReportOptions
from wash_bench.report.read import record
from wash_bench.report.read.columns import (
    BARRIER_FIELDS,
    CORRUPTION_FIELDS,
    EVENT_FIELDS,
    SIMPLEX_FIELDS,
    TRAINING,
)
from wash_bench.report.read.summary import summary_frame

_EXPERIMENT = (*TRAINING, "experiment_id")
# What a training has a file of for each evaluation that asked for it: the setting, the reader,
# the columns.
_MORE = {
    "simplex": ("simplex_points", record.simplex, SIMPLEX_FIELDS),
    "corruption": ("corruptions", record.corruption, CORRUPTION_FIELDS),
}


class _Rows:
    """The rows of many files as one table, led by columns that say whose they are.

    Put together once at the end: pandas would take longer for each file's columns than for reading.
    """

    def __init__(self, columns: Sequence[str], lead: Sequence[str] = TRAINING) -> None:
        self._lead, self._columns = list(lead), list(columns)
        self._origins: list[dict[str, Any]] = []
        self._frames: list[pd.DataFrame] = []

    def add(self, origin: dict[str, Any], frame: pd.DataFrame | None) -> None:
        """The rows of one file, of the training, or experiment, that these columns name."""
        if frame is not None and len(frame):
            self._origins.append({name: origin[name] for name in self._lead})
            self._frames.append(frame)

    @property
    def table(self) -> pd.DataFrame:
        """All rows."""
        if not self._frames:
            return pd.DataFrame(columns=[*self._lead, *self._columns])
        rows = np.repeat(np.arange(len(self._frames)), list(map(len, self._frames)))
        lead = pd.DataFrame(self._origins).take(rows).reset_index(drop=True)
        return pd.concat([lead, pd.concat(self._frames, ignore_index=True)], axis=1)


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
        options: what the report is asked for.
        outcome_files: by cell, where each image's outcome may be, and the network's name there.
        computed: results that were computed already, by what they are of.
    """

    summary: pd.DataFrame
    events: pd.DataFrame
    barrier: pd.DataFrame
    environments: pd.DataFrame
    evaluations: dict[str, dict[str, Any]] = field(default_factory=dict)
    configs: dict[str, dict[str, Any]] = field(default_factory=dict)
    simplex: pd.DataFrame = field(default_factory=lambda: _Rows(SIMPLEX_FIELDS, _EXPERIMENT).table)
    corruption: pd.DataFrame = field(
        default_factory=lambda: _Rows(CORRUPTION_FIELDS, _EXPERIMENT).table
    )
    warnings: list[str] = field(default_factory=list)
    options: ReportOptions = field(default_factory=ReportOptions)
    outcome_files: dict[str, list[tuple[Path, str]]] = field(default_factory=dict)
    computed: dict[Any, Any] = field(default_factory=dict)

    def outcomes(self, cell_id: str) -> np.ndarray | None:
        """Return accuracy (%) and NLL of a cell's delivered network by image, (images, 2)."""
        for path, network in self.outcome_files.get(cell_id, ()):
            if path.is_file():
                found, problems = record.outcomes(path, network)
                self.warnings += problems
                if found is not None:
                    return found
        return None

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


def _of_methods(
    cells: Mapping[str, dict[str, Any]], methods: Sequence[str]
) -> dict[str, dict[str, Any]]:
    """Return the cells of these methods; a UsageError for a method without any."""
    known = list(dict.fromkeys(cell["method"] for cell in cells.values()))
    for name in methods:
        if name not in known:
            raise UsageError(f"--methods {name}: no record is of it: {nearest(name, known)}")
    return {id_: cell for id_, cell in cells.items() if cell["method"] in methods}


def load(roots: Sequence[Path], methods: Sequence[str] = ()) -> Records:
    """Read all records of run folders, or those of some methods.

    Returns:
        The records; what is broken is among their warnings.

    Raises:
        UsageError: there is no folder, or no record of a method.
        WashBenchError: there is no record at all.
    """
    warnings: list[str] = []
    cells: dict[str, dict[str, Any]] = {}
    outcomes: dict[str, list[tuple[Path, str]]] = {}
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
                    data = record.cell(path)
                except record.BrokenRecord as problem:
                    problems.append(f"{path}: {problem}, left out")
                    continue
                found += 1
                if data["cell_id"] in cells:
                    warnings.append(f"{path}: this cell was read before, left out")
                    continue
                cells[data["cell_id"]] = data
                outcomes[data["cell_id"]] = _outcome_files(folder, data)
            for path in sorted(p for p in (folder / "trainings").glob("*") if p.is_dir()):
                trainings.setdefault(path.name, path)
        if not found:
            if problems:
                raise WashBenchError(f"no record can be read: {problems[0]}")
            raise WashBenchError(
                f"no finished cell in {root}: give a folder that 'wash-bench run --out' wrote"
            )
        warnings += problems

    of_all = {cell["training_id"] for cell in cells.values()}
    if methods:
        cells = _of_methods(cells, methods)
    summary = summary_frame(list(cells.values()))
    for name in sorted(set(trainings) - of_all):
        warnings.append(f"{trainings[name]}: training without a cell (unfinished), left out")
    evaluations = {cell["experiment_id"]: cell["config"]["evaluation"] for cell in cells.values()}
    events, barriers = _Rows(EVENT_FIELDS), _Rows(BARRIER_FIELDS, _EXPERIMENT)
    more = {name: _Rows(columns, _EXPERIMENT) for name, (_, _, columns) in _MORE.items()}
    environments = []
    unlogged: list[Path] = []
    heads = _heads(summary)
    for head in heads:
        folder = trainings.get(head["training_id"])
        if folder is None:
            warnings.append(f"training {head['training_id']}: its folder is missing")
            continue
        log = folder / "events.jsonl"
        keys = {id_: fingerprint(evaluations[id_]) for id_ in head["experiments"]}
        head["sha256"] = record.digests(folder, list(keys.values()))
        if head["finished"] and not log.exists():
            unlogged.append(log)
        else:
            events.add(head, _of(head, log, record.events, warnings))
        for experiment_id in head["experiments"]:
            path = folder / f"barrier-{keys[experiment_id]}.csv"
            if not path.exists() and (folder / "barrier.csv").exists():
                path = folder / "barrier.csv"
            origin = head | {"experiment_id": experiment_id}
            barriers.add(origin, _of(head, path, record.barrier, warnings))
            for name, (setting, reader, _) in _MORE.items():
                if evaluations[experiment_id].get(setting):
                    path = folder / f"{name}-{keys[experiment_id]}.csv"
                    more[name].add(origin, _of(head, path, reader, warnings))
        environment = {name: head[name] for name in TRAINING}
        try:
            environment |= record.json_object(folder / "environment.json")
        except record.BrokenRecord as problem:
            if head["finished"] or (folder / "environment.json").exists():
                warnings.append(f"{folder / 'environment.json'}: {problem}, left out")
        environments.append(environment)
    if unlogged:
        warnings.insert(0, _without_log(unlogged, len(heads)))
    return Records(
        summary=summary,
        events=events.table,
        barrier=barriers.table,
        simplex=more["simplex"].table,
        corruption=more["corruption"].table,
        environments=pd.DataFrame(environments),
        evaluations=evaluations,
        configs={cell["experiment_id"]: cell["config"] for cell in cells.values()},
        warnings=warnings,
        outcome_files=outcomes,
    )


def _outcome_files(folder: Path, cell: dict[str, Any]) -> list[tuple[Path, str]]:
    """Where the outcomes of what a cell delivers may be: its own, else of the measured networks."""
    evaluation = fingerprint(cell["config"]["evaluation"])
    predictor = str(cell["summary"].get("method_predictor", ""))
    training = folder / "trainings" / cell["training_id"]
    return [
        (training / f"outcomes-{cell['cell_id']}.npz", "method"),
        (training / f"outcomes-{evaluation}.npz", predictor),
    ]


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
) -> pd.DataFrame | None:
    """A file of one training; None if it is missing, as of a failed cell, or another's."""
    if not path.exists() and not head["finished"]:
        return None
    written = head["sha256"].get(path.name)
    if written and path.is_file() and digest_of(path) != written:
        warnings.append(f"{path}: its bytes are not those that were written, left out")
        return None
    frame, problems = reader(path)
    warnings += problems
    return frame
