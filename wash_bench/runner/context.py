"""How a run is carried out; no result depends on it."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import torch

from wash_bench.distributed.world import LocalWorld, World
from wash_bench.record import environment
from wash_bench.record.claims import STALE
from wash_bench.runner.progress import Observer, unobserved
from wash_bench.settings.local import LocalConfig


@dataclass(frozen=True)
class RunContext:
    """Where and with what means the tasks of a run are carried out.

    Attributes:
        out: the run folder.
        jobs: trainings side by side, each in a process of its own.
        threads: CPU threads of each training; 0 for torch's number (all cores, or
            OMP_NUM_THREADS) shared among the jobs. Results are the same bits at equal threads.
        download: whether a data set may be fetched.
        retry_failed: train failed cells again instead of keeping them as failed.
        debug: print tracebacks of failing cells.
        observer: is told the progress, in this process.
        world: the processes that hold each population together; this one alone by default. Every
            one of them makes the same calls; rank 0 decides what is open, and writes the records.
        shard: (i, k), from 1: only every k-th training, beginning with the i-th.
        worker: share the folder with other workers, on any hosts: take what nobody works on until
            nothing is left to take.
        stale: seconds after which a worker that gives no sign of life is replaced.
    """

    out: Path
    jobs: int = 1
    threads: int = 0
    download: bool = False
    retry_failed: bool = False
    debug: bool = False
    observer: Observer = unobserved
    world: World = field(default_factory=LocalWorld)
    shard: tuple[int, int] = (1, 1)
    worker: bool = False
    stale: float = STALE

    @classmethod
    def of(cls, local: LocalConfig, **more: Any) -> RunContext:
        """The context that the local settings name; ``more`` are its fields that no setting has."""
        ours = (item.name for item in fields(cls) if item.name in LocalConfig.model_fields)
        return cls(**{name: getattr(local, name) for name in ours}, **more)

    def with_threads(self) -> RunContext:
        """The same with a number of threads."""
        return replace(self, threads=self.threads or max(1, torch.get_num_threads() // self.jobs))

    def in_another_process(self) -> RunContext:
        """The same for a process of a pool, which is a world of its own; it can be pickled."""
        return replace(self, observer=unobserved, world=LocalWorld())

    def set_up_torch(self) -> None:
        """Set this process up for training."""
        environment.jobs = self.jobs
        torch.set_num_threads(self.threads)
        # A resumed training must give the same bits on a GPU too.
        torch.backends.cudnn.deterministic = True
        torch.backends.cudnn.benchmark = False
