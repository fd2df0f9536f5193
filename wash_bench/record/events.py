"""The table of events of one training: step, epoch, member, metric, value; one JSON line each.

The first line says the version of the others.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from wash_bench.record.schema import SCHEMA


class EventLog:
    """Append-only; a resumed training cuts it back to where its checkpoint was taken."""

    def __init__(self, path: Path, keep_bytes: int) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("ab")
        self._file.truncate(keep_bytes)
        self._file.seek(0, os.SEEK_END)
        if not keep_bytes:
            self._write({"schema": SCHEMA})

    def add(
        self, step: int, epoch: float, metric: str, value: float, member: int | None = None
    ) -> None:
        """One event; ``member`` None for the whole population."""
        row = {"step": step, "epoch": epoch, "member": member, "metric": metric, "value": value}
        if value - value != 0:
            row["value"] = None  # JSON knows no NaN
        self._write(row)

    def _write(self, line: dict[str, Any]) -> None:
        self._file.write(json.dumps(line).encode() + b"\n")

    def flush(self) -> int:
        """Bring everything to the disk; the number of bytes that the log has now."""
        self._file.flush()
        os.fsync(self._file.fileno())
        return self._file.tell()

    def close(self) -> None:
        """End the log."""
        self._file.close()


class NoLog:
    """The log of a process that writes no records."""

    def add(
        self, step: int, epoch: float, metric: str, value: float, member: int | None = None
    ) -> None:
        """Nothing."""

    def flush(self) -> int:
        return 0

    def close(self) -> None:
        """Nothing."""
