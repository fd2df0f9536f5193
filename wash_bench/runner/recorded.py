"""Recorded cells, read back as tasks that can be carried out again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from wash_bench.config import RunConfig
from wash_bench.data.paths import near
from wash_bench.errors import UsageError, nearest
from wash_bench.plugins.registry import find_method
from wash_bench.record.folders import run_folders
from wash_bench.record.schema import read_record
from wash_bench.runner.task import TrainingTask
from wash_bench.study.cells import Cell, CellIds, Inputs, MethodSpec
from wash_bench.study.methods import find_methods


@dataclass(frozen=True)
class CellRecord:
    """A cell and the run folder it lies in.

    Attributes:
        root: the run folder.
        data: the record.
        config: its settings.
    """

    root: Path
    data: Mapping[str, Any]
    config: RunConfig


def find_cell(named: str, runs: Path) -> CellRecord:
    """A cell by its file, or by its id or the beginning of it.

    Args:
        named: the file or the id.
        runs: a run folder, or a folder that holds some, where ids are looked up.

    Returns:
        The record; a UsageError says that there is none, several, or that it failed.
    """
    path = Path(named).expanduser()
    return cell_at(path if path.suffix == ".json" else _by_id(named, runs))


def cell_at(path: Path) -> CellRecord:
    """The record of a finished cell in a file; a UsageError if it is none, or failed."""
    data = read_record("cell", path)
    if data is None:
        raise UsageError(f"{path}: is no record of a cell")
    if data["status"] != "finished":
        raise UsageError(f"cell {data['cell_id']} failed: {data.get('reason')}")
    try:
        config = RunConfig.model_validate(data["config"])
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise UsageError(f"{path}: its config.{where}: {first['msg']}") from None
    paths = {key: near(getattr(config.training, key), path) for key in ("dataset", "model")}
    training = config.training.model_copy(update=paths)
    return CellRecord(path.parents[1], data, config.model_copy(update={"training": training}))


def _by_id(named: str, runs: Path) -> Path:
    files = {
        file.stem: file
        for folder in run_folders(runs)
        for file in sorted((folder / "cells").glob("*.json"))
    }
    found = [name for name in files if name == named] or [n for n in files if n.startswith(named)]
    if len(found) == 1:
        return files[found[0]]
    if found:
        raise UsageError(
            f"{len(found)} cells of {runs} begin with {named!r}: {nearest(named, found)}"
        )
    raise UsageError(f"no cell {named!r} in {runs}: {nearest(named, files)}")


def task_of(cell: CellRecord, methods: tuple[str, ...] = ()) -> TrainingTask:
    """A recorded cell's training, with this cell alone.

    Args:
        cell: the record.
        methods: files of methods that are not installed, as ``path.py:Class``.

    Returns:
        The task, with the ids of the record.
    """
    data = cell.data
    # Its id was not always in the record of a cell; without it no evaluation is found.
    evaluation = data.get("evaluation_id") or ""
    found = {entry.name: entry for entry in find_methods((), methods)}
    spec = MethodSpec(find_method(data["method"], found), cell.config.set.get(data["method"], {}))
    known = CellIds(data["cell_id"], data["training_id"], evaluation, data["experiment_id"])
    again = Cell(spec, data["seed"], cell.config, Inputs(cell.config.training), known)
    return TrainingTask((again,))
