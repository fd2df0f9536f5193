"""``--jobs auto``: how many trainings side by side fill this machine. No torch but to count GPUs.

A core is filled best by a training of its own: threads of one training wait for one another at
every operation, and the smaller the network the longer. The number follows from the run and the
machine alone, not from what is left to do or from who else is at work: the same command gives each
training the same number of threads again, on which the last bits of its results depend.
"""

import contextlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from wash_bench.config import TrainingConfig
from wash_bench.config.optimizers import OPTIMIZERS
from wash_bench.core.layout import Layout
from wash_bench.cores import cores
from wash_bench.data.catalog import spec_of
from wash_bench.runner.context import RunContext
from wash_bench.runner.task import TrainingTask
from wash_bench.study.device import device_type

SHARE = 0.8  # of the machine's memory that jobs may fill
_LIMITS = ("memory.max", "memory/memory.limit_in_bytes")  # of control groups, version 2 and 1


def jobs_for(tasks: Sequence[TrainingTask], context: RunContext) -> int:
    """Return how many of these tasks run side by side: one per GPU, else as the cores allow."""
    training = tasks[0].config.training
    if context.world.ranks > 1:
        return 1
    kind = device_type(training.device)
    if kind == "cuda" and training.device in ("auto", "cuda"):
        import torch

        return max(1, min(torch.cuda.device_count(), len(tasks)))
    if kind != "cpu":
        return 1
    if spec_of(training.dataset).reader is None:
        return 1  # the processes that decode its images fill the cores already
    return max(1, min(cores() // max(1, context.threads), len(tasks)))


def fitting(jobs: int, each: float) -> int:
    """So many of the jobs, at least 1, as fit into the machine's memory at ``each`` bytes."""
    room = memory()
    return jobs if room is None else max(1, min(jobs, int(SHARE * room / each)))


def bytes_of(training: TrainingConfig, layout: Layout) -> float:
    """What a job takes: all that this process took at most so far, and a population's rows."""
    slots = OPTIMIZERS[training.optimizer].slots.items()
    kept = sum(not needed or bool(getattr(training, needed)) for _, needed in slots)
    n = training.population
    # N rows of weights and of each optimizer slot, and one gradient row, float32.
    rows = layout.size * (n * (1 + kept) + 1) + n * layout.buffer_size
    return 4 * rows + _peak()


def memory(groups: Path = Path("/sys/fs/cgroup")) -> int | None:
    """Bytes of memory that this machine has, or that its container may use; None if not told."""
    found = []
    with contextlib.suppress(AttributeError, ValueError, OSError):
        found.append(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    for name in _LIMITS:
        with contextlib.suppress(OSError, ValueError):  # "max" is no limit
            found.append(int((groups / name).read_text()))
    return min(found, default=None)


def _peak() -> int:
    """The greatest resident memory of this process so far, bytes; 0 where it is not told."""
    try:
        import resource
    except ImportError:
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak
