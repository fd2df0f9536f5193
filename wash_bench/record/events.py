"""The table of events of one training: step, epoch, member, metric, value; one JSON line each.

The first line says the version of the others.
"""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from wash_bench.errors import WashBenchError
from wash_bench.files import regular
from wash_bench.record.schema import SCHEMA


class EventLog:
    """Append-only, cut back to ``keep_bytes``, a checkpoint's; writes nothing without a path.

    ``note`` is told of a log that has lost lines since the checkpoint.
    """

    def __init__(
        self, path: Path | None, keep_bytes: int, note: Callable[[str], None] = lambda text: None
    ) -> None:
        self._file = self._path = None
        if path is None:
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        there = regular(path).read_bytes() if path.exists() else b""
        whole = there.rfind(b"\n") + 1
        if whole < keep_bytes:
            note(f"{path}: events up to the checkpoint are lost, and missing in reports")
            keep_bytes = whole
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
        """Bring everything to the disk, unless the file was removed meanwhile, which is an error.

        Returns:
            The number of bytes that the log has now.

        Raises:
            WashBenchError: the file is gone.
        """
        if self._file is None:
            return 0
        if not os.fstat(self._file.fileno()).st_nlink:
            raise WashBenchError(
                f"{self._path} was removed while its training ran; run the same command again"
            )
        self._file.flush()
        os.fsync(self._file.fileno())
        return self._file.tell()

    def close(self) -> None:
        """End the log."""
        if self._file:
            self._file.close()
