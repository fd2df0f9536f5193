"""The table of events of one training: step, epoch, member, metric, value; one JSON line each.

The first line says the version of the others.
"""

import json
import os
from pathlib import Path
from typing import Any

from wash_bench.record.schema import SCHEMA


class EventLog:
    """Append-only, cut back to ``keep_bytes``, a checkpoint's; writes nothing without a path."""

    def __init__(self, path: Path | None, keep_bytes: int) -> None:
        self._file = None
        if path is None:
            return
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
        if self._file:
            self._file.write(json.dumps(line).encode() + b"\n")

    def flush(self) -> int:
        """Bring everything to the disk; the number of bytes that the log has now."""
        if self._file is None:
            return 0
        self._file.flush()
        os.fsync(self._file.fileno())
        return self._file.tell()

    def close(self) -> None:
        """End the log."""
        if self._file:
            self._file.close()
