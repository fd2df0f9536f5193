"""Where a run folder stands, from its records alone: nothing heavy, and nothing is changed."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any, Literal

from filelock import FileLock, Timeout

from wash_bench.files import read_json
from wash_bench.record.asked import Asked, LastRun, read_asked
from wash_bench.record.claims import REPORT, STALE, newest_claim
from wash_bench.record.presence import alive, time_at, who, workers
from wash_bench.record.schema import read_record, read_summed
from wash_bench.record.store import TrainingFolder

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
        workers: who is on the folder, as ``HOST, process PID``, with the training that it holds,
            or "" where it looks for one, or writes the report.
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
        self.last: LastRun = read_asked(root)
        self.records: dict[str, Mapping[str, Any]] = {}
        for path in sorted((root / "cells").glob("*.json")):
            if record := read_record("cell", path):
                self.records[record["cell_id"]] = record
        self.plain = _locked(root)
        self.holders = self._holders()

    def status(self) -> FolderStatus:
        asked = {cell.cell_id: cell for cell in self.last.cells}
        known = {
            cell_id: _asked_of(record)
            for cell_id, record in self.records.items()
            if cell_id not in asked
        }
        cells = tuple(self._cell(cell) for cell in (known | asked).values())
        took = self._took(cells)
        cells = tuple(replace(cell, seconds_left=self._left(cell, took)) for cell in cells)
        return FolderStatus(self.root, cells, tuple(self._workers()), _together(cells))

    def _cell(self, cell: Asked) -> CellStatus:
        record = self.records.get(cell.cell_id)
        folder = TrainingFolder(self.root / "trainings" / cell.training_id)
        found = CellStatus(
            cell.cell_id, cell.training_id, cell.method, cell.name, cell.seed, "waiting"
        )
        worker = self._worker(cell.training_id, folder)
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

    def _worker(self, training_id: str, folder: TrainingFolder) -> str:
        """Who works on a training; empty if nobody does."""
        if holder := self.holders.get(training_id):
            return holder
        status = folder.path / "status.json"
        try:
            told = read_summed(status)["status"]
            # A status of before this run is that of one that was killed.
            since = status.stat().st_mtime >= self.last.written
        except (OSError, ValueError, KeyError, TypeError):
            return ""
        open_ = told == "running" or (told == "finished" and self._unmeasured(training_id))
        return (self.last.by or "a run") if self.plain and since and open_ else ""

    def _unmeasured(self, training_id: str) -> bool:
        """Whether cells of a training that has ended have no record yet."""
        ids = [cell.cell_id for cell in self.last.cells if cell.training_id == training_id]
        return any(cell_id not in self.records for cell_id in ids)

    def _holders(self) -> dict[str, str]:
        """By training, the worker that holds it."""
        found = {}
        for folder in (self.root / "claims").glob("*"):
            if folder.name == workers(self.root).name or not folder.is_dir():
                continue
            path = newest_claim(folder)
            if path and alive(path, _stale(path), self._now) and (holder := who(path)):
                found[folder.name] = holder
        return found

    def _workers(self) -> list[tuple[str, str]]:
        found = []
        for path in sorted(workers(self.root).glob("*.json")):
            if alive(path, _stale(path), self._now) and (name := who(path)):
                held = [training for training, holder in self.holders.items() if holder == name]
                found.append((name, next((t for t in held if t != REPORT), "")))
        if self.plain:
            found.append((self.last.by or "a run", ""))
        return found

    def _now(self) -> float:
        try:
            return time_at(self.root)
        except OSError:  # a folder that may only be read
            return time.time()

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


def _asked_of(record: Mapping[str, Any]) -> Asked:
    ids = {key: record[key] for key in ("cell_id", "training_id", "experiment_id", "method")}
    training = record["config"].get("training")
    epochs = training.get("epochs") if isinstance(training, Mapping) else None
    told = epochs if isinstance(epochs, int) else 0
    return Asked(**ids, seed=record["seed"], name=record["method"], epochs=told)


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


def _stale(path: Path) -> float:
    try:
        return float(read_json(path)["stale"])
    except (OSError, ValueError, KeyError, TypeError):  # gone, or being written
        return STALE


def _locked(root: Path) -> bool:
    """Whether a plain run uses the folder."""
    path = root / ".lock"
    if not path.exists():
        return False
    lock = FileLock(path, timeout=0)
    try:
        with lock:  # for a moment, as a worker that begins does
            return False
    except Timeout:
        return True
    except OSError:  # a folder that may only be read
        return False
