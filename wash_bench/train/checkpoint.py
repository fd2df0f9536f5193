"""The state of a training in one safetensors file, replaced as a whole."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from wash_bench.core.method import Method
from wash_bench.core.population import Population
from wash_bench.errors import CellFailure
from wash_bench.record.files import write_atomically


def population_tensors(population: Population) -> dict[str, Tensor]:
    """Everything of a population that a resumed training needs."""
    return {
        "weights": population.weights,
        "buffers": population.buffers,
        "counters": population.counters,
        "optimizer_steps": population.optimizer_steps,
        **{f"optimizer/{slot}": rows for slot, rows in population.optimizer_state.items()},
    }


def save(path: Path, population: Population, method: Method, notes: dict[str, Any]) -> None:
    """Write the tensors, and ``notes`` (step, ledger, seconds, ...) in the file's own header.

    Raises:
        OSError: the file cannot be written, as when the disk is full; the old one stands.
    """
    tensors = population_tensors(population)
    tensors |= {f"method/{name}": tensor for name, tensor in method.state_dict().items()}
    tensors = {name: tensor.contiguous() for name, tensor in tensors.items()}
    metadata = {"notes": json.dumps(notes)}
    try:
        write_atomically(path, lambda part: save_file(tensors, part, metadata))
    except SafetensorError as error:  # it hides the system's error behind its own
        if "os error 28" in str(error):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path)) from error
        raise OSError(errno.EIO, str(error), str(path)) from error


def load(path: Path, population: Population, method: Method) -> dict[str, Any]:
    """Fill the population and the method from a checkpoint; returns the notes.

    Raises:
        CellFailure: the file is not a checkpoint of such a population.
    """
    try:
        with safe_open(path, "pt", device=str(population.device)) as file:
            for name, rows in population_tensors(population).items():
                rows.copy_(file.get_tensor(name))
            method.load_state_dict(
                {
                    name.removeprefix("method/"): file.get_tensor(name)
                    for name in file.keys()  # noqa: SIM118 (safe_open is no mapping)
                    if name.startswith("method/")
                }
            )
            return json.loads(file.metadata()["notes"])
    except (SafetensorError, KeyError, RuntimeError) as error:
        raise CellFailure(f"{path} does not fit; remove its folder: {error}") from error
