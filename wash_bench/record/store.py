"""The run folder: ``cells/ID.json``, one a cell, and ``trainings/ID/``, one a training.

A training folder holds ``training.json`` (its settings), ``environment.json``, ``events.jsonl``,
``status.json``, its state (``train.checkpoint``) and what was measured on it; docs/records.md tells
what they hold. Every file but the event log is replaced as a whole.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from wash_bench.errors import UsageError
from wash_bench.files import digest_of
from wash_bench.record.schema import read_record, read_summed, write_record, write_summed


@dataclass(frozen=True)
class ManifestCell:
    """A cell that the last run of a folder was asked for.

    Attributes:
        cell_id, training_id, experiment_id: its ids.
        method, seed: which cell it is.
        name: the method, or its variant where the run has several.
        epochs: length of its training.
    """

    cell_id: str
    training_id: str
    experiment_id: str
    method: str
    seed: int
    name: str
    epochs: int


def write_manifest(root: Path, cells: Sequence[ManifestCell]) -> None:
    """Write to ``run.json`` what a run is asked for, unless it says so already."""
    if read_manifest(root) != tuple(cells):
        since = datetime.now(UTC).isoformat(timespec="seconds")
        cells_asked = [asdict(cell) for cell in cells]
        write_summed(root / "run.json", {"since": since, "cells": cells_asked})


def read_manifest(root: Path) -> tuple[ManifestCell, ...]:
    """Return what the last run of a folder was asked for; nothing where no readable file says."""
    try:
        return tuple(ManifestCell(**cell) for cell in read_summed(root / "run.json")["cells"])
    except (OSError, ValueError, KeyError, TypeError):
        return ()


class Store:
    """One run folder; a UsageError if it cannot be made or written."""

    def __init__(self, root: Path) -> None:
        self.root = root
        try:
            (root / "cells").mkdir(parents=True, exist_ok=True)
            (root / "trainings").mkdir(exist_ok=True)
            probe = root / ".writable"
            probe.touch()
            probe.unlink(missing_ok=True)  # another process may have done so
        except OSError as error:
            raise UsageError(
                f"cannot write to the run folder {root}: {error.strerror}; choose another --out"
            ) from error

    def cell(self, cell_id: str) -> dict[str, Any] | None:
        """The record of a cell that finished or failed, None if there is none (or a broken one)."""
        return read_record("cell", self.root / "cells" / f"{cell_id}.json")

    def cell_stamp(self, cell_id: str) -> tuple[int, int]:
        """Return what tells the record of a cell from a later one in its place."""
        about = (self.root / "cells" / f"{cell_id}.json").stat()
        return about.st_ino, about.st_mtime_ns

    def write_cell(self, record: dict[str, Any]) -> None:
        """Write a cell's record over an older one."""
        path = self.root / "cells" / f"{record['cell_id']}.json"
        write_record(path, record)

    def training(self, training_id: str) -> TrainingFolder:
        """The folder of a training, there or not."""
        return TrainingFolder(self.root / "trainings" / training_id)


class TrainingFolder:
    """The folder of one training."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.events = path / "events.jsonl"
        self.environment = path / "environment.json"

    def set_status(self, status: str, reason: str | None = None) -> None:
        """``running``, ``finished`` or ``failed`` with the reason, and the log as it is then."""
        data: dict[str, Any] = {"status": status, "reason": reason}
        if status == "finished" and self.events.is_file():
            data["sha256"] = {self.events.name: digest_of(self.events)}
        write_summed(self.path / "status.json", data)

    def environment_so_far(self) -> dict[str, Any]:
        """Where the training ran up to its last checkpoint; empty if that is not known."""
        try:
            return read_summed(self.environment)
        except (FileNotFoundError, ValueError):
            return {}

    def evaluation(self, evaluation_id: str) -> dict[str, Any] | None:
        """What was measured on the population under these evaluation settings, if it was."""
        found = read_record("evaluation", self.path / f"evaluation-{evaluation_id}.json")
        return found and {key: found[key] for key in found if key not in ("schema", "sha256")}

    def write_evaluation(self, evaluation_id: str, data: dict[str, Any]) -> None:
        """Write what was measured on the population, and digests of the points beside it."""
        points = (self.barrier, self.simplex, self.corruption, self.outcomes)
        beside = [of(evaluation_id) for of in points]
        digests = {path.name: digest_of(path) for path in beside if path.is_file()}
        path = self.path / f"evaluation-{evaluation_id}.json"
        write_record(path, data | {"sha256": digests})

    def network(self, cell_id: str) -> Path:
        """The single network that a cell's method delivers, where that is not the average."""
        return self.path / f"network-{cell_id}.safetensors"

    def barrier(self, evaluation_id: str) -> Path:
        """The points along the segments between members."""
        return self.path / f"barrier-{evaluation_id}.csv"

    def simplex(self, evaluation_id: str) -> Path:
        """The points of the triangle between three members."""
        return self.path / f"simplex-{evaluation_id}.csv"

    def outcomes(self, evaluation_id: str) -> Path:
        """The outcomes per test image of the best member, the ensemble and the average."""
        return self.path / f"outcomes-{evaluation_id}.npz"

    def cell_outcomes(self, cell_id: str) -> Path:
        """The outcomes per test image of what a cell's method delivers."""
        return self.path / f"outcomes-{cell_id}.npz"

    def corruption(self, evaluation_id: str) -> Path:
        """What was measured on corrupted test images."""
        return self.path / f"corruption-{evaluation_id}.csv"
