"""Where a run folder stands, from its records alone: nothing heavy, and nothing is changed."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any, Literal

from wash_bench.record.locks import owners
from wash_bench.record.schema import read_record
from wash_bench.record.store import ManifestCell, TrainingFolder, read_manifest

State = Literal["finished", "running", "waiting", "failed"]
STATES: tuple[State, ...] = ("finished", "running", "waiting", "failed")


@dataclass(frozen=True)
class CellStatus:
    """One cell.

    Attributes:
        cell_id, training_id, method, name, seed: which it is.
        status: ``running`` if somebody works on its training, ``waiting`` if nobody does yet, or
            any more.
        epoch, epochs: done, up to the last checkpoint, and in all.
        worker: who works on it, as ``HOST, process PID``; empty where nobody does.
        seconds_left: of its training and evaluation, estimated; None while nothing tells. Cells
            that share a training share it.
        reason: why it failed.
    """

    cell_id: str
    training_id: str
    method: str
    name: str
    seed: int
    status: State
    epoch: int = 0
    epochs: int = 0
    worker: str = ""
    seconds_left: float | None = None
    reason: str = ""


@dataclass(frozen=True)
class FolderStatus:
    """A run folder.

    Attributes:
        folder: where it is.
        cells: all that have a record, and what the last run was asked for.
        workers: the processes that work on the folder, as ``HOST, process PID``, each with the
            training that it holds, or ``report`` while it writes the report.
        seconds_left: until the last cell is done, estimated; None while nothing tells.
    """

    folder: Path
    cells: tuple[CellStatus, ...]
    workers: tuple[tuple[str, str], ...]
    seconds_left: float | None

    @property
    def counts(self) -> dict[State, int]:
        """How many cells stand how."""
        found = Counter(cell.status for cell in self.cells)
        return {state: found[state] for state in STATES}


def status_of(root: Path) -> FolderStatus:
    """Where the run folder at ``root`` stands."""
    return _Reader(root).status()


class _Reader:
    def __init__(self, root: Path) -> None:
        self.root = root
        self.records: dict[str, Mapping[str, Any]] = {}
        for path in sorted((root / "cells").glob("*.json")):
            if record := read_record("cell", path):
                self.records[record["cell_id"]] = record
        self.owners = owners(root)

    def status(self) -> FolderStatus:
        asked = {cell.cell_id: cell for cell in read_manifest(self.root)}
        known = {
            cell_id: _manifest_of(record)
            for cell_id, record in self.records.items()
            if cell_id not in asked
        }
        cells = tuple(self._cell(cell) for cell in (known | asked).values())
        took = self._took(cells)
        cells = tuple(replace(cell, seconds_left=self._left(cell, took)) for cell in cells)
        workers = tuple(sorted((owner, name) for name, owner in self.owners.items()))
        return FolderStatus(self.root, cells, workers, _together(cells))

    def _cell(self, cell: ManifestCell) -> CellStatus:
        record = self.records.get(cell.cell_id)
        folder = TrainingFolder(self.root / "trainings" / cell.training_id)
        found = CellStatus(
            cell.cell_id, cell.training_id, cell.method, cell.name, cell.seed, "waiting"
        )
        worker = self.owners.get(cell.training_id, "")
        if record and (record["status"] == "finished" or not worker):
            failed = record["status"] == "failed"
            reason = " ".join(str(record.get("reason") or "").split()) if failed else ""
            return replace(found, status="failed" if failed else "finished", reason=reason)
        state = read_record("state", folder.path / "state.json")
        return replace(
            found,
            status="running" if worker else "waiting",
            epoch=state["epoch"] if state else 0,
            epochs=cell.epochs,
            worker=worker,
        )

    def _took(self, cells: tuple[CellStatus, ...]) -> dict[str, float]:
        """Seconds that finished trainings took, evaluation included, by id."""
        took = {}
        for cell in cells:
            if cell.status == "finished":
                summary = self.records[cell.cell_id]["summary"]
                parts = [summary.get(key) for key in ("train_seconds", "eval_seconds")]
                if all(isinstance(part, int | float) for part in parts):
                    took[cell.training_id] = float(sum(parts))
        return took

    def _left(self, cell: CellStatus, took: Mapping[str, float]) -> float | None:
        """Of an open cell by its own epochs so far, else by the finished trainings."""
        if cell.status not in ("running", "waiting"):
            return None
        if cell.training_id in took:  # another method reads what is trained
            return 0.0
        state = read_record("state", self.root / "trainings" / cell.training_id / "state.json")
        if state and state["epoch"] and cell.epochs:
            spent = state["notes"].get("train_seconds")
            if isinstance(spent, int | float):
                return spent / state["epoch"] * max(cell.epochs - state["epoch"], 0)
        alike = [took[each] for each in self._trainings_of(cell.method) if each in took]
        return fmean(alike or took.values()) if took else None

    def _trainings_of(self, method: str) -> set[str]:
        return {r["training_id"] for r in self.records.values() if r["method"] == method}


def _manifest_of(record: Mapping[str, Any]) -> ManifestCell:
    ids = {key: record[key] for key in ("cell_id", "training_id", "experiment_id", "method")}
    training = record["config"].get("training")
    epochs = training.get("epochs") if isinstance(training, Mapping) else None
    known = epochs if isinstance(epochs, int) else 0
    return ManifestCell(**ids, seed=record["seed"], name=record["method"], epochs=known)


def _together(cells: tuple[CellStatus, ...]) -> float | None:
    """Seconds until all are done, as many side by side as now (one where nobody works)."""
    open_ = {cell.training_id: cell for cell in cells if cell.status in ("running", "waiting")}
    if not open_:
        return 0.0
    seconds = [cell.seconds_left for cell in open_.values()]
    known = [each for each in seconds if each is not None]
    if not known:
        return None
    total = math.fsum(known) / len(known) * len(seconds)
    running = sum(cell.status == "running" for cell in open_.values())
    return max(total / max(running, 1), *known)
