"""The settings that say how a run is carried out and do not change what it finds."""

from __future__ import annotations

import re
import signal
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import field_validator, model_validator

from wash_bench.config.field import (
    DATA,
    DISTRIBUTED,
    MACHINE,
    METHODS,
    RECORD,
    WHAT,
    ConfigModel,
    setting,
)
from wash_bench.config.renamed import flag_of
from wash_bench.errors import UsageError

_local = partial(setting, identity="never")


class LocalConfig(ConfigModel):
    """How a run is carried out; no part of its records.

    Attributes:
        jobs: None for auto.
        shard: (i, k): the i-th, from 1, of k shares of the trainings.
    """

    method: tuple[str, ...] = _local((), METHODS, "FILE:CLASS", repeat=True)
    """Your own method's file, as path.py:Class; repeatable."""
    download: bool = _local(False, DATA)
    """Download missing data."""
    jobs: int | None = _local(None, WHAT, "J|auto", shown="auto", ge=1)
    """Trainings in parallel (auto: as many as fit; one per GPU)."""
    procs: int = _local(1, DISTRIBUTED, "R", ge=1)
    """Processes that share each population, at most N; use torchrun for several machines."""
    silence: int = _local(15, DISTRIBUTED, unit="seconds", ge=5)
    """Silence of a process of --nproc or torchrun after which the run ends; at least 5."""
    threads: int = _local(0, MACHINE, unit="threads", ge=0, le=1024)
    """CPU threads of each job or process (0: the cores divided by them)."""
    time_limit: int = _local(0, MACHINE, unit="seconds", shown="none", ge=0)
    """A training that takes longer, its evaluation included, fails its cells; the others go on."""
    worker: bool = _local(False, DISTRIBUTED)
    """Wait for trainings that other processes work on, on any host that shares the run folder, and
    take what they leave; one training at a time."""
    shard: tuple[int, int] = _local((1, 1), DISTRIBUTED, "I/K", shown="1/1")
    """Only the i-th of k shares of the trainings, without a shared folder; wash-bench
    report joins them."""
    out: Path = _local(Path("runs"), WHAT, "DIR")
    """Run folder; cells that are finished there are kept."""
    retry_failed: bool = _local(False, RECORD)
    """Train cells that failed before again."""
    log: tuple[str, ...] = _local((), RECORD, "LIST")
    """Write what is recorded elsewhere too: csv, tensorboard, wandb, mlflow, or a logger of your
    own as path.py:Class."""
    report: bool = _local(True, RECORD)
    """Write the report at the end."""

    @field_validator("jobs", mode="before")
    @classmethod
    def _by_itself(cls, given: Any) -> Any:
        return None if given == "auto" else given

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

    @field_validator("out", mode="before")
    @classmethod
    def _named(cls, out: Any) -> Any:
        if out == "":
            raise ValueError("is empty: name a folder")
        return out

    @field_validator("out")
    @classmethod
    def _own_folder(cls, out: Path) -> Path:
        return out.expanduser()

    @model_validator(mode="after")
    def _limited(self) -> LocalConfig:
        if self.time_limit and self.procs > 1:
            raise UsageError("--time-limit is of trainings in one process: leave --nproc out")
        if self.time_limit and not hasattr(signal, "SIGALRM"):
            raise UsageError("--time-limit needs a system with POSIX signals: leave it out")
        return self

    @model_validator(mode="after")
    def _together(self) -> LocalConfig:
        if not self.worker:
            return self
        if self.shard[1] > 1:
            raise UsageError("--shard and --worker both divide the trainings: give one of them")
        for key in ("jobs", "procs"):
            if (getattr(self, key) or 1) > 1:
                raise UsageError(
                    "--worker takes one training at a time, in one process: leave "
                    f"{flag_of(key)} out, and start more workers"
                )
        return self
