"""Join run folders that several machines wrote, without touching them.

A cell or a training that only a source has is copied: into a hidden folder first, which is then
renamed, so a join that is killed leaves nothing half-copied and can be started again. What the
target has already it keeps.
"""

import contextlib
import filecmp
import hashlib
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wash_bench.errors import UsageError, WashBenchError
from wash_bench.files import safetensors_header
from wash_bench.metrics import METRICS
from wash_bench.record.folders import some_run_folders
from wash_bench.record.presence import alone
from wash_bench.record.schema import Kind, Record, UnknownSchema, read_record
from wash_bench.record.store import Store

# Clock times: no two runs have the same ones, and they say nothing about the result.
_TIMES = {key for key, metric in METRICS.items() if metric.unit == "s"}
# Written once and then only replaced as a whole, so both folders may share them on the disk.
_SHARED = {".safetensors"}
# What was measured on a training; several evaluations lie side by side.
_MEASURED = (
    "evaluation-*.json",
    "barrier-*.csv",
    "simplex-*.csv",
    "corruption-*.csv",
    "network-*.safetensors",
)


@dataclass
class Joined:
    """What a join did: counts, and a line for each conflict or thing left out."""

    cells: int = 0
    trainings: int = 0
    equal: int = 0
    conflicts: list[str] = field(default_factory=list)


def join_folders(sources: Sequence[Path], out: Path) -> Joined:
    """Copy the cells and trainings of ``sources``, which are only read, into the folder ``out``.

    Links and whatever else is no plain file or folder stay behind, so that a folder from somebody
    else brings no file of this machine along. Equal things are no conflict; of different ones the
    target's, or else the first source's, is kept. A cell whose training in the target is another
    one is left out: its numbers are not of that training, and the target's own can be computed
    from it by the run command.

    Returns:
        What was done.

    Raises:
        UsageError: a source is no run folder, or is ``out``.
        WashBenchError: a run is using ``out``, or the disk is full.
    """
    folders = []
    for source in sources:
        folders += some_run_folders(source)
    for folder in folders:
        if out.exists() and folder.samefile(out):
            raise UsageError(f"--out {out} is one of the sources: choose another folder")
    store = Store(out)
    joined = Joined()
    try:
        with alone(store):
            for folder in folders:
                _join(folder, store, joined)
    except OSError as error:
        raise WashBenchError(
            f"cannot copy {error.filename or ''} to {out}: {error.strerror}; the same command goes"
            " on from what is there"
        ) from error
    return joined


def _join(source: Path, store: Store, joined: Joined) -> None:
    refused = set()
    for training in sorted(path for path in (source / "trainings").glob("*") if path.is_dir()):
        if training.name.startswith("."):
            continue
        if training.is_symlink():
            refused.add(training.name)
            joined.conflicts.append(f"{training}: a link, left out")
            continue
        try:
            problem = _join_training(training, store.root / "trainings" / training.name, joined)
        except UnknownSchema as unknown:
            problem = f"training {training.name}: left out: {unknown}"
        if problem:
            refused.add(training.name)
            joined.conflicts.append(problem)
    for path in sorted((source / "cells").glob("*.json")):
        target = store.root / "cells" / path.name
        if not _plain(path):
            joined.conflicts.append(f"{path}: no plain file, left out")
            continue
        try:
            cell, own = (_read("cell", side) for side in (path, target))
        except UnknownSchema as unknown:
            joined.conflicts.append(f"cell {path.stem}: left out: {unknown}")
            continue
        if cell is None:
            joined.conflicts.append(f"{path}: cannot be read, left out")
        elif target.exists():
            if own is not None and _facts(own) == _facts(cell):
                joined.equal += 1
            elif own is None:
                _copy_file(path, target, store.root)
                joined.cells += 1
            else:
                joined.conflicts.append(
                    f"cell {path.stem}: {source} has other values, those of {store.root} are kept"
                )
        elif cell.get("training_id") in refused:
            joined.conflicts.append(f"cell {path.stem}: left out with its training")
        else:
            _copy_file(path, target, store.root)
            joined.cells += 1


def _join_training(source: Path, target: Path, joined: Joined) -> str | None:
    """Bring one training over; a line if it is a conflict."""
    state, own = _state(source), _state(target)
    if not target.exists():
        return _copy_training(source, target, joined)
    if not state.get("finished"):
        if not own.get("finished") and not _same(source, target):
            return (
                f"training {source.name}: unfinished in both, that of {target.parents[1]} is kept"
            )
        return None  # a finished training stands above an unfinished one
    if not own.get("finished"):
        return _copy_training(source, target, joined)
    if not _same(source / state["folder"], target / own["folder"]):
        return (
            f"training {source.name}: {source.parents[1]} has other weights, those of"
            f" {target.parents[1]} are kept"
        )
    joined.equal += 1
    for pattern in _MEASURED:
        for path in sorted(source.glob(pattern)):
            if not (target / path.name).exists() and _plain(path):
                _copy_file(path, target / path.name, target.parents[1])
    return None


def _copy_training(source: Path, target: Path, joined: Joined) -> str | None:
    """Copy a training's folder as a whole, over an unfinished one if there is one."""
    before = _listing(source)
    odd: list[Path] = []

    def left_out(folder: str, names: list[str]) -> list[str]:
        found = [Path(folder, name) for name in names if not _plain(Path(folder, name), True)]
        odd.extend(found)
        return [path.name for path in found]

    with _hidden(target.parents[1]) as stage:
        try:
            shutil.copytree(source, stage / "new", copy_function=_link_or_copy, ignore=left_out)
        except (FileNotFoundError, shutil.Error):
            if _listing(source) == before:
                raise
        if _listing(source) != before:
            return f"training {source.name}: left out, {source.parents[1]} is being written"
        if target.exists():
            target.rename(stage / "old")
        (stage / "new").rename(target)
    joined.trainings += 1
    joined.conflicts += [f"{path}: no plain file or folder, left out" for path in odd]
    return None


def _plain(path: Path, folders: bool = False) -> bool:
    """Whether a path is a file, or else a folder where these count, and no link to one."""
    mode = path.lstat().st_mode
    return stat.S_ISREG(mode) or (folders and stat.S_ISDIR(mode))


def _copy_file(source: Path, target: Path, root: Path) -> None:
    with _hidden(root) as stage:
        shutil.copy2(source, stage / source.name)
        (stage / source.name).replace(target)


@contextlib.contextmanager
def _hidden(root: Path) -> Iterator[Path]:
    """A folder in the run folder that nobody reads, removed at the end."""
    stage = Path(tempfile.mkdtemp(prefix=".merge-", dir=root))
    try:
        yield stage
    finally:
        shutil.rmtree(stage, ignore_errors=True)


def _link_or_copy(source: str, target: str) -> str:
    if Path(source).suffix in _SHARED:
        with contextlib.suppress(OSError):  # another disk, or one without hard links
            os.link(source, target)
            return target
    return shutil.copy2(source, target)


def _listing(folder: Path) -> set[tuple[str, int, int]]:
    found = set()
    for path in folder.rglob("*"):
        with contextlib.suppress(FileNotFoundError):
            about = path.stat()
            size = 0 if path.is_dir() else about.st_size
            found.add(
                (str(path.relative_to(folder)), size, 0 if path.is_dir() else about.st_mtime_ns)
            )
    return found


def _same(one: Path, other: Path) -> bool:
    """Whether two folders hold the same tensors."""
    names = [sorted(path.relative_to(folder) for path in folder.rglob("*.safetensors"))
             for folder in (one, other)]  # fmt: skip
    return names[0] == names[1] and all(
        filecmp.cmp(one / name, other / name, shallow=False)
        or _same_tensors(one / name, other / name)
        for name in names[0]
    )


def _same_tensors(*paths: Path) -> bool:
    """Whether safetensors files differ in metadata alone, in which older ones have no checksum."""
    found = []
    for path in paths:
        with path.open("rb") as file:
            try:
                _, table = safetensors_header(file)
            except ValueError:
                return False
            table.pop("__metadata__", None)
            found.append((table, hashlib.file_digest(file, "sha256").digest()))
    return found[0] == found[1]


def _state(training: Path) -> dict[str, Any]:
    return _read("state", training / "state.json") or {}


def _read(kind: Kind, path: Path) -> Record | None:
    try:
        if not path.is_file():  # a named pipe would be waited for
            return None
        return read_record(kind, path)
    except OSError:
        return None


def _facts(cell: dict[str, Any]) -> dict[str, Any]:
    """A cell's record without the times of its making."""
    summary = {key: v for key, v in (cell.get("summary") or {}).items() if key not in _TIMES}
    return {key: v for key, v in cell.items() if key != "finished_at"} | {"summary": summary}
