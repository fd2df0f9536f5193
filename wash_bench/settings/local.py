"""The settings that say how a run is carried out and do not change what it finds."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import field_validator, model_validator

from wash_bench.config.field import MACHINE, NETWORK, RECORD, WHAT, Settings, setting
from wash_bench.errors import UsageError

_local = partial(setting, identity="never")


class LocalConfig(Settings):
    """How a run is carried out; no part of its records.

    Attributes:
        shard: (i, k): the i-th, from 1, of k shares of the trainings.
    """

    method: tuple[str, ...] = _local(
        (),
        "A method of your own, as path.py:Class, beside --methods; repeatable.",
        WHAT,
        metavar="FILE:CLASS",
        repeat=True,
    )
    download: bool = _local(False, "Download missing data.", NETWORK)
    jobs: int = _local(1, "Trainings side by side on this machine.", MACHINE, metavar="J", ge=1)
    procs: int = _local(
        1,
        "Processes that share each population, at most N; torchrun starts them on several "
        "machines.",
        MACHINE,
        metavar="R",
        ge=1,
    )
    threads: int = _local(
        0,
        "CPU threads of each job or process (0: the cores divided by them).",
        MACHINE,
        unit="threads",
        ge=0,
    )
    worker: bool = _local(
        False,
        "Work beside other workers, on any hosts, that were given the same command and share the "
        "run folder.",
        MACHINE,
    )
    stale: int = _local(
        120,
        "A worker that gives no sign of life for so long is replaced; at least 10.",
        MACHINE,
        unit="seconds",
        ge=10,
    )
    shard: tuple[int, int] = _local(
        (1, 1),
        "Only the i-th of k shares of the trainings, without a shared folder; wash-bench report "
        "joins them.",
        MACHINE,
        metavar="I/K",
        shown="1/1",
    )
    out: Path = _local(
        Path("runs"),
        "Folder of the records; what is finished there is not trained again.",
        RECORD,
        metavar="DIR",
    )
    retry_failed: bool = _local(False, "Train cells that failed before again.", RECORD)
    report: bool = _local(True, "Write the report at the end.", RECORD)

    @field_validator("shard", mode="before")
    @classmethod
    def _share(cls, given: Any) -> Any:
        if isinstance(given, tuple):
            return given
        found = re.fullmatch(r"(\d{1,9})/(\d{1,9})", str(given), re.ASCII)
        index, shards = map(int, found.groups()) if found else (0, 0)
        if not 1 <= index <= shards:
            raise ValueError("write it as i/k with i from 1 to k, as 1/3, 2/3 and 3/3")
        return index, shards

    @field_validator("out")
    @classmethod
    def _own_folder(cls, out: Path) -> Path:
        return out.expanduser()

    @model_validator(mode="after")
    def _together(self) -> LocalConfig:
        if not self.worker:
            return self
        if self.shard[1] > 1:
            raise UsageError("--shard and --worker both divide the trainings: give one of them")
        for key in ("jobs", "procs"):
            if getattr(self, key) > 1:
                raise UsageError(
                    f"--worker takes one training at a time, in one process: leave --{key} out, "
                    "and start more workers"
                )
        return self
