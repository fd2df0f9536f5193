"""A whole experiment: what of its cells is done already, and the rest, here or side by side."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from wash_bench.config import RunConfig
from wash_bench.data.catalog import FOLDER_PREFIX
from wash_bench.data.place import content_of
from wash_bench.distributed.group import agree
from wash_bench.distributed.spread import Spread
from wash_bench.distributed.world import LocalWorld, World
from wash_bench.errors import UsageError
from wash_bench.models.init_checkpoint import content_of_checkpoint
from wash_bench.plugins.registry import MethodEntry, make_method
from wash_bench.record.claims import STALE, Claims
from wash_bench.record.identity import Cell, cell_of
from wash_bench.record.presence import alone
from wash_bench.record.store import Store
from wash_bench.runner.batch import Outcome, run_open, share_out
from wash_bench.runner.jobs import Work
from wash_bench.runner.progress import Observer
from wash_bench.runner.setting import resolve_device
from wash_bench.runner.task import Task


def tasks_of(config: RunConfig, entries: Sequence[MethodEntry]) -> list[Task]:
    """The trainings of an experiment, seeds outside, methods with one rule together."""
    device = resolve_device(config.training.device).type
    dataset, content = config.training.dataset, None
    if dataset.startswith(FOLDER_PREFIX):  # images may have been added since the last run
        content = content_of(Path(dataset.removeprefix(FOLDER_PREFIX)).expanduser())
    start = _start(config)
    groups: dict[str, list[tuple[Cell, MethodEntry]]] = {}
    for seed in config.seeds:
        for entry in entries:
            method = make_method(entry, config.set.get(entry.name, {}))
            cell = cell_of(
                config,
                device,
                method,
                entry.identity,
                seed,
                content,
                start,
                entry.training_identity,
            )
            groups.setdefault(cell.training_id, []).append((cell, entry))
    return [
        Task(config, tuple(cell for cell, _ in group), tuple(entry for _, entry in group))
        for group in groups.values()
    ]


def run_experiment(
    config: RunConfig,
    entries: Sequence[MethodEntry],
    out: Path,
    *,
    jobs: int = 1,
    threads: int = 0,
    download: bool = False,
    retry_failed: bool = False,
    debug: bool = False,
    observer: Observer = lambda progress: None,
    world: World | None = None,
    shard: tuple[int, int] = (1, 1),
    worker: bool = False,
    stale: float = STALE,
) -> Outcome:
    """Run what is not done yet of an experiment.

    Args:
        config: the experiment.
        entries: its methods.
        out: the run folder.
        jobs: trainings side by side, each in a process of its own.
        threads: CPU threads of each training; 0 for torch's number (all cores, or
            OMP_NUM_THREADS) shared among the jobs. Results are the same bits at equal threads.
        download: whether a data set may be fetched.
        retry_failed: train failed cells again instead of keeping them as failed.
        debug: print tracebacks of failing cells.
        observer: is told the progress, in this process.
        world: the processes that hold each population together; this one alone by default. Every
            one of them calls this; rank 0 decides what is open, and writes the records.
        shard: (i, k), from 1: only every k-th training, beginning with the i-th.
        worker: share the folder with other workers, on any hosts: take what nobody works on until
            nothing is left to take.
        stale: seconds after which a worker that gives no sign of life is replaced.

    Raises:
        UsageError: the folder, device, data or network do not do.
        WashBenchError: the folder is in use, or the machine failed.
    """
    world = world or LocalWorld()
    if world.ranks > 1 and (jobs > 1 or worker):
        option = "--worker" if worker else "--jobs"
        raise UsageError(f"{option} trains each population in one process: leave it out here")
    Spread(config.training.population, world.ranks)  # refuses more processes than members
    agree(world, _identity(config, entries))
    store, outcome = Store(out), Outcome()
    threads = threads or max(1, torch.get_num_threads() // jobs)
    work = Work(store, download, debug, threads, jobs)
    if worker:
        with Claims(store.root, stale) as claims:
            # What failed before now is tried again if so asked; what another worker retried is not.
            retry_before = claims.now() if retry_failed else 0.0
            tasks = tasks_of(config, entries)
            share_out(tasks, work, claims, retry_before, outcome, observer)
        return outcome
    with alone(store) if world.rank == 0 else contextlib.nullcontext():
        tasks = tasks_of(config, entries)[shard[0] - 1 :: shard[1]] if world.rank == 0 else []
        run_open(tasks, work, world, retry_failed, outcome, observer)
    return outcome


def _start(config: RunConfig) -> str | None:
    """The digest of the checkpoint that members start from, if they do."""
    path = config.training.checkpoint
    return content_of_checkpoint(path) if path else None


def _identity(config: RunConfig, entries: Sequence[MethodEntry]) -> dict[str, Any]:
    """What the processes of one run must have in common; data may lie elsewhere on each host."""
    settings = config.model_dump(mode="json", exclude={"training": {"data_dir"}})
    for section in ("training", "evaluation"):
        settings |= settings.pop(section)
    settings["init"] = _start(config) or settings["init"]
    settings["device"] = resolve_device(config.training.device).type
    return settings | {f"file of {e.name}": e.identity for e in entries if e.identity}
