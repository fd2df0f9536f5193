"""``run.json``: the cells that the last run of a folder was asked for, and which process it is."""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from wash_bench.record.schema import read_summed, write_summed


@dataclass(frozen=True)
class Asked:
    """One cell that was asked for.

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


@dataclass(frozen=True)
class LastRun:
    """What ``run.json`` says.

    Attributes:
        cells: what was asked for.
        by: the process of a plain run, as ``HOST, process PID``; empty of workers.
        written: when, seconds of the file server's clock.
    """

    cells: tuple[Asked, ...] = ()
    by: str = ""
    written: float = 0.0


def write_asked(root: Path, cells: Sequence[Asked], *, worker: bool) -> None:
    """Say what a run is asked for: workers of one command once, and what is finished not again."""
    recorded = all((root / "cells" / f"{cell.cell_id}.json").is_file() for cell in cells)
    if (worker or recorded) and read_asked(root).cells == tuple(cells):
        return
    by = None if worker else {"host": socket.gethostname(), "pid": os.getpid()}
    since = datetime.now(UTC).isoformat(timespec="seconds")
    write_summed(
        root / "run.json", {"since": since, "by": by, "cells": [asdict(cell) for cell in cells]}
    )


def read_asked(root: Path) -> LastRun:
    """The last run of a folder; an empty one where nothing readable says it."""
    path = root / "run.json"
    try:
        data: dict[str, Any] = read_summed(path)
        cells = tuple(Asked(**cell) for cell in data["cells"])
        by = data["by"]
        named = f"{by['host']}, process {by['pid']}" if by else ""
        return LastRun(cells, named, path.stat().st_mtime)
    except (OSError, ValueError, KeyError, TypeError):
        return LastRun()
