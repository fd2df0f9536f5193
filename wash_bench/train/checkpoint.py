"""The state of a training on disk: one file a member, and a pointer that is replaced as a whole.

``state.json`` names the folder that holds the state of one epoch, with the notes (ledger, seconds,
length of the event log). In that folder, ``member-N.safetensors`` has a member's tensors under the
architecture's own names (timm loads it), ``optimizer-N.safetensors`` its optimizer's state, and
``method.safetensors`` what the method remembers. Members are written by the process that holds
them, the pointer by rank 0 once all are there; until then the older state stands whole. The
number of processes may change from one run to the next.
"""

import errno
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from wash_bench.core.method import Method
from wash_bench.core.population import Population
from wash_bench.distributed.world import World
from wash_bench.errors import CellFailure
from wash_bench.record.files import write_atomically, write_json
from wash_bench.record.schema import SCHEMA, read_record


def pointer(folder: Path) -> dict[str, Any] | None:
    """What ``state.json`` says (``epoch``, ``finished``, ``folder``, ``notes``), if it is there."""
    return read_record("state", folder / "state.json")


def save(
    folder: Path,
    population: Population,
    method: Method,
    world: World,
    *,
    epoch: int,
    finished: bool,
    notes: dict[str, Any],
) -> None:
    """Write the state after ``epoch`` epochs, with what the training wants back as JSON ``notes``.

    Every process calls it. Where a file cannot be written, as when the disk is full, the older
    state stands. A finished training's state is without the optimizer's.
    """
    state = folder / f"state-{epoch}"
    for row, member in enumerate(population.members):
        tensors = population.named_tensors(population.state(row))
        save_tensors(state / f"member-{member}.safetensors", tensors)
        if not finished:
            save_tensors(state / f"optimizer-{member}.safetensors", _optimizer(population, row))
        if rows := _memory(population, row):
            save_tensors(state / f"method-{member}.safetensors", rows)
    if world.rank == 0:
        save_tensors(state / "method.safetensors", method.state_dict())
    world.wait()
    if world.rank == 0:
        say = {"epoch": epoch, "finished": finished, "folder": state.name, "notes": notes}
        write_json(folder / "state.json", {"schema": SCHEMA} | say)
        for old in folder.glob("state-*"):
            if old != state:
                shutil.rmtree(old, ignore_errors=True)


def load(folder: Path, population: Population, method: Method) -> dict[str, Any]:
    """Fill population and method from the state that stands; a CellFailure if it is broken."""
    found = pointer(folder)
    if found is None:
        raise CellFailure(f"{folder} holds no state; remove it and run again")
    state = folder / found["folder"]
    device = str(population.device)
    try:
        for row, member in enumerate(population.members):
            population.fill(row, load_file(state / f"member-{member}.safetensors", device))
            if not found["finished"]:
                kept = load_file(state / f"optimizer-{member}.safetensors", device)
                for name, vector in _optimizer(population, row).items():
                    vector.copy_(kept[name])
            if rows := _memory(population, row):
                kept = load_file(state / f"method-{member}.safetensors", device)
                for name, vector in rows.items():
                    vector.copy_(kept[name])
        if (state / "method.safetensors").exists() or not found["finished"]:
            method.load_state_dict(load_file(state / "method.safetensors", device))
    except (OSError, SafetensorError, KeyError, RuntimeError) as error:
        raise CellFailure(f"{state} does not fit; remove {folder}: {error}") from error
    return found


def save_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """A safetensors file, written as a whole; an OSError if it cannot be."""
    contiguous = {name: tensor.contiguous() for name, tensor in tensors.items()}
    try:
        write_atomically(path, lambda part: save_file(contiguous, part, {"format": "pt"}))
    except SafetensorError as error:  # it hides the system's error behind its own
        if "os error 28" in str(error):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path)) from error
        raise OSError(errno.EIO, str(error), str(path)) from error


def _memory(population: Population, row: int) -> dict[str, Tensor]:
    """What the method remembers of a member, as views."""
    return {name: rows[row] for name, rows in population.member_state.items()}


def _optimizer(population: Population, row: int) -> dict[str, Tensor]:
    """A member's optimizer state, as views."""
    state = {slot: rows[row] for slot, rows in population.optimizer_state.items()}
    return state | {"steps": population.optimizer_steps[row]}
