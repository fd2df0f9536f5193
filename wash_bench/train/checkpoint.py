"""The state of a training on disk: one file a member, and a pointer that is replaced as a whole.

``state.json`` names the folder that holds the state at the end of an epoch, or within one, with
the notes (ledger, seconds, length of the event log). In that folder, ``member-N.safetensors`` has a
member's tensors under the architecture's own names (timm loads it), ``optimizer-N.safetensors`` its
optimizer's state, and ``method.safetensors`` what the method remembers. Members are written by the
process that holds them, the pointer by rank 0 once all are there; until then the older state stands
whole. The number of processes may change from one run to the next.

The pointer holds the SHA-256 of every file, and, until the training is finished, the state before
this one, which is kept: bytes that changed on the disk are noticed, and the older state is used.
"""

import errno
import json
import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from wash_bench.core.method import Method
from wash_bench.core.population import Population
from wash_bench.distributed.world import World
from wash_bench.errors import CellFailure
from wash_bench.files import digest_of, safetensors_header, write_atomically
from wash_bench.models.checkpoint_file import CHECKSUM, content_sum
from wash_bench.record.schema import read_record, write_record

LOSSES = "epoch_losses"
_STATE = re.compile(r"state-\d+(-\d+)?")


class Damaged(CellFailure):
    """A file of a state is not what was written."""


def pointer(folder: Path) -> dict[str, Any] | None:
    """What ``state.json`` says (``epoch``, ``finished``, ``folder``, ``notes``), if it is there."""
    found = read_record("state", folder / "state.json")
    return found if found and _STATE.fullmatch(found["folder"]) else None


def save(
    folder: Path,
    population: Population,
    method: Method,
    world: World,
    *,
    epoch: int,
    finished: bool,
    notes: dict[str, Any],
    losses: Tensor | None = None,
) -> None:
    """Write the state after ``epoch`` epochs, with what the training wants back as JSON ``notes``.

    In the middle of an epoch ``losses`` are those of its steps so far (steps, rows), which go into
    the optimizer's files.

    Every process calls it. Where a file cannot be written, as when the disk is full, the older
    state stands. A finished training's state is without the optimizer's, and stands alone.
    """
    state = folder / (f"state-{epoch}" if losses is None else f"state-{epoch}-{len(losses)}")
    written = []

    def write(name: str, tensors: Mapping[str, Tensor]) -> None:
        keep = save_network if finished and name.startswith("member-") else save_tensors
        keep(state / name, tensors)
        written.append((name, digest_of(state / name)))

    for row, member in enumerate(population.members):
        write(f"member-{member}.safetensors", population.named_tensors(population.state(row)))
        if not finished:
            kept = _optimizer(population, row)
            if losses is not None:
                kept[LOSSES] = losses[:, row]
            write(f"optimizer-{member}.safetensors", kept)
        if rows := _memory(population, row):
            write(f"method-{member}.safetensors", rows)
    if world.rank == 0:
        write("method.safetensors", method.state_dict())
    digests = world.all_gather(written)
    if world.rank == 0:
        say = {"epoch": epoch, "finished": finished, "folder": state.name, "notes": notes}
        say["sha256"] = dict(sorted(digests))
        before = pointer(folder)
        if before and not finished and before["folder"] != state.name:
            say["previous"] = {key: value for key, value in before.items() if key != "previous"}
        write_record(folder / "state.json", say)
        remove_older(folder)


def remove_older(folder: Path) -> None:
    """Remove states that the pointer does not name, as a killed run leaves them."""
    if found := pointer(folder):
        _remove_but(folder, {found["folder"], (found.get("previous") or found)["folder"]})


def remove_states(folder: Path) -> None:
    """Remove pointer and states, so that the training begins anew."""
    (folder / "state.json").unlink(missing_ok=True)
    _remove_but(folder, set())


def _remove_but(folder: Path, kept: set[str]) -> None:
    for old in folder.glob("state-*"):
        if old.name not in kept:
            shutil.rmtree(old, ignore_errors=True)


def load(
    folder: Path, found: Mapping[str, Any], population: Population, method: Method
) -> Tensor | None:
    """Fill population and method from a state that the pointer names.

    Returns:
        The losses of the steps of an epoch that was begun (steps, rows); None at an epoch's end.

    Raises:
        Damaged: a file is not there, or not as it was written.
    """
    state = folder / found["folder"]
    device = str(population.device)
    digests = found.get("sha256") or {}  # older versions had none

    def read(name: str) -> dict[str, Tensor]:
        path = state / name
        try:
            if name in digests and digest_of(path) != digests[name]:
                raise Damaged(f"{path}: its bytes are not those that were written")
            return load_file(path, device)
        except (OSError, SafetensorError) as error:
            raise Damaged(f"{path}: {error}") from error

    losses = []
    try:
        for row, member in enumerate(population.members):
            population.fill(row, read(f"member-{member}.safetensors"))
            if not found["finished"]:
                kept = read(f"optimizer-{member}.safetensors")
                for name, vector in _optimizer(population, row).items():
                    vector.copy_(kept[name])
                losses += [kept[LOSSES]] if LOSSES in kept else []
            if rows := _memory(population, row):
                kept = read(f"method-{member}.safetensors")
                for name, vector in rows.items():
                    vector.copy_(kept[name])
        if (state / "method.safetensors").exists() or not found["finished"]:
            method.load_state_dict(read("method.safetensors"))
    except (KeyError, RuntimeError) as error:
        raise Damaged(f"{state} does not fit: {error}") from error
    return torch.stack(losses, dim=1) if losses else None


def save_network(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """``save_tensors`` with a checksum in the file, which whoever reads the network holds it to."""
    save_tensors(path, tensors, {CHECKSUM: content_sum(tensors)})


def save_tensors(
    path: Path, tensors: Mapping[str, Tensor], about: Mapping[str, str] | None = None
) -> None:
    """A safetensors file, what its header says besides, written as a whole; OSError if not."""
    contiguous = {name: tensor.contiguous() for name, tensor in tensors.items()}
    header = {"format": "pt"} | dict(about or {})
    try:
        write_atomically(path, lambda part: _write(part, contiguous, header))
    except SafetensorError as error:  # it hides the system's error behind its own
        if "os error 28" in str(error):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path)) from error
        raise OSError(errno.EIO, str(error), str(path)) from error


def _write(path: Path, tensors: dict[str, Tensor], about: dict[str, str]) -> None:
    """Equal tensors make equal files: the library writes metadata in an order that it draws."""
    save_file(tensors, path, about)
    with path.open("rb+") as file:
        length, header = safetensors_header(file)
        header["__metadata__"] = dict(sorted(about.items()))
        text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
        if len(text) <= length:
            file.seek(8)
            file.write(text.ljust(length))


def _memory(population: Population, row: int) -> dict[str, Tensor]:
    """What the method remembers of a member, as views."""
    return {name: rows[row] for name, rows in population.member_state.items()}


def _optimizer(population: Population, row: int) -> dict[str, Tensor]:
    """A member's optimizer state, as views."""
    state = {slot: rows[row] for slot, rows in population.optimizer_state.items()}
    return state | {"steps": population.optimizer_steps[row]}
