"""What of a run folder can go: neither a report nor the same command again would read it."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from wash_bench.config.values import path_in
from wash_bench.errors import WashBenchError
from wash_bench.files import read_json, remove
from wash_bench.record.locks import check_unused, hold, leftovers
from wash_bench.record.schema import read_record
from wash_bench.record.store import read_manifest

Kind = Literal["states", "failed", "leftovers"]
# The kinds, with what goes with them.
KINDS: dict[Kind, str] = {
    "states": "members of finished trainings; without them their cells cannot be exported, and a "
    "method added later trains again",
    "failed": "records of failed cells; the report does not tell of them any more, and the same "
    "command tries them again",
    "leftovers": "what killed processes left behind",
}
_STATE = re.compile(r"state-\d+")


@dataclass(frozen=True)
class Item:
    """Something that can go.

    Attributes:
        kind: one of ``KINDS``.
        path: the file or folder; a state's ``state.json`` goes with it.
        size: in bytes.
        about: what it is.
    """

    kind: Kind
    path: Path
    size: int
    about: str


def removable(root: Path) -> list[Item]:
    """Return what can go of the run folder at ``root``; a WashBenchError while a run uses it."""
    check_unused(root)
    return _found(root)


def prune(root: Path, items: Collection[Item]) -> int:
    """Remove what was listed, as far as it still can go.

    Returns:
        The bytes that are free now.

    Raises:
        WashBenchError: a run works on the folder, or something cannot be removed.
    """
    freed = 0
    still = {(item.kind, item.path): item for item in removable(root)}
    for item in (still[key] for each in items if (key := (each.kind, each.path)) in still):
        place = item.path.relative_to(root).parts
        in_training = place[0] == "trainings"
        with hold(root, place[1]) if in_training else contextlib.nullcontext(True) as held:
            if not held:  # a run has begun meanwhile
                continue
            if item.kind == "states":  # before what it names
                (item.path.parent / "state.json").unlink(missing_ok=True)
            remove(item.path)
        if item.path.exists() and not item.path.is_symlink():
            raise WashBenchError(f"cannot remove {item.path}: it may belong to somebody else")
        freed += item.size
    return freed


def _found(root: Path) -> list[Item]:
    cells = {
        record["cell_id"]: record
        for path in sorted((root / "cells").glob("*.json"))
        if (record := read_record("cell", path))
    }
    items = list(_leftovers(root))
    items += [
        _item("failed", root / "cells" / f"{cell_id}.json", str(record.get("reason") or ""))
        for cell_id, record in cells.items()
        if record["status"] == "failed"
    ]
    needed = _open_trainings(root, cells)
    starts = _starts(root, cells)
    for training in sorted(path for path in (root / "trainings").glob("*") if path.is_dir()):
        items += _states(training, cells, needed, starts)
    order = list(KINDS)
    return sorted(items, key=lambda item: order.index(item.kind))


def _states(
    training: Path,
    cells: Mapping[str, Mapping[str, Any]],
    needed: Collection[str],
    starts: Collection[Path],
) -> Iterator[Item]:
    """The state of a training that is done with, and those that nothing names."""
    pointer = training / "state.json"
    state = read_record("state", pointer)
    if state is None and pointer.exists():  # it cannot be read: the run tells of it
        return
    named = set()
    if state:
        named = {state["folder"], (state.get("previous") or state)["folder"]}
    for folder in sorted(training.glob("state-*")):
        if not _STATE.fullmatch(folder.name) or not folder.is_dir() or folder.is_symlink():
            continue
        if folder.name not in named:
            yield _item("leftovers", folder, "a state that a killed run left behind")
            continue
        readers = [cell for cell in cells.values() if cell["training_id"] == training.name]
        done = bool(readers) and state is not None and state["finished"]
        used = any(folder.resolve() in path.parents for path in starts)
        if done and training.name not in needed and not used:
            names = ", ".join(sorted({cell["method"] for cell in readers}))
            yield _item("states", folder, f"members of {names}, seed {readers[0]['seed']}")


def _open_trainings(root: Path, cells: Mapping[str, Mapping[str, Any]]) -> set[str]:
    """The trainings of cells that the same command would still work on, failed ones included."""
    left = {cell["training_id"] for cell in cells.values() if cell["status"] != "finished"}
    return left | {cell.training_id for cell in read_manifest(root) if cell.cell_id not in cells}


def _starts(root: Path, cells: Mapping[str, Mapping[str, Any]]) -> set[Path]:
    """The files that trainings of this folder started from: their content is a part of its ids."""
    configs = [cell["config"] for cell in cells.values()]
    for path in (root / "trainings").glob("*/training.json"):
        try:
            configs.append(read_json(path)["config"])
        except (OSError, ValueError, KeyError, TypeError):
            continue
    found: set[Path | str] = set()
    for config in configs:
        training = config.get("training") if isinstance(config, Mapping) else None
        if not isinstance(training, Mapping):
            continue
        if start := path_in(str(training.get("init"))):
            found.add(start)
        members = training.get("members")
        found |= {str(path) for path in members} if isinstance(members, list) else set()
    starts = set()
    for path in found:
        with contextlib.suppress(OSError, ValueError, RuntimeError):  # no path of this system
            starts.add(Path(path).expanduser().resolve())
    return starts


def _leftovers(root: Path) -> Iterator[Item]:
    for path in leftovers(root):
        yield _item("leftovers", path, "unfinished")
    for pattern in ("trainings/*/.events.jsonl.*", ".merge-*", ".writable"):
        for path in sorted(root.glob(pattern)):
            if path.suffix != ".part":
                yield _item("leftovers", path, "unfinished")
    for path in sorted(root.glob("claims")):
        yield _item("leftovers", path, "claims of workers of an older version")
    for path in sorted(root.glob("locks/*.json")):
        yield _item("leftovers", path, "the lock of a process that does not live any more")


def _item(kind: Kind, path: Path, about: str) -> Item:
    files = path.rglob("*") if path.is_dir() and not path.is_symlink() else [path]
    size = sum(file.lstat().st_size for file in files if file.is_symlink() or file.is_file())
    return Item(kind, path, size, " ".join(about.split()))
