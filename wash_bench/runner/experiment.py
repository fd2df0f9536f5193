"""A whole experiment: what of its cells is done already, and the rest, here or side by side."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch

from wash_bench.config import RunConfig, fingerprint
from wash_bench.data.catalog import FOLDER_PREFIX
from wash_bench.data.place import content_of
from wash_bench.distributed.group import agree
from wash_bench.distributed.spread import Spread
from wash_bench.distributed.world import LocalWorld, World
from wash_bench.errors import UsageError
from wash_bench.record.identity import Cell, cell_of
from wash_bench.record.store import Store
from wash_bench.registry import MethodEntry, make_method
from wash_bench.runner.jobs import Work, here, side_by_side
from wash_bench.runner.progress import Observer
from wash_bench.runner.setting import resolve_device
from wash_bench.runner.task import Task


@dataclass
class Outcome:
    """Cell ids by what became of them."""

    finished: list[str] = field(default_factory=list)
    cached: list[str] = field(default_factory=list)
    failed: list[tuple[str, str]] = field(default_factory=list)

    def add(self, results: Sequence[tuple[str, str | None]]) -> None:
        for cell_id, reason in results:
            if reason is None:
                self.finished.append(cell_id)
            else:
                self.failed.append((cell_id, reason))


def tasks_of(config: RunConfig, entries: Sequence[MethodEntry]) -> list[Task]:
    """The trainings of an experiment, seeds outside, methods with one rule together."""
    device = resolve_device(config.training.device).type
    dataset, content = config.training.dataset, None
    if dataset.startswith(FOLDER_PREFIX):  # images may have been added since the last run
        content = content_of(Path(dataset.removeprefix(FOLDER_PREFIX)).expanduser())
    groups: dict[str, list[tuple[Cell, MethodEntry]]] = {}
    for seed in config.seeds:
        for entry in entries:
            method = make_method(entry, config.set.get(entry.name, {}))
            cell = cell_of(config, device, method, entry.source_hash, seed, content)
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

    Raises:
        UsageError: the folder, device, data or network do not do.
        WashBenchError: the folder is in use, or the machine failed.
    """
    world = world or LocalWorld()
    if world.ranks > 1 and jobs > 1:
        raise UsageError("--jobs trains whole populations side by side: under torchrun leave it 1")
    Spread(config.training.population, world.ranks)  # refuses more processes than members
    agree(world, fingerprint(config.model_dump(mode="json")))
    store = Store(out)
    outcome = Outcome()
    with store.locked() if world.rank == 0 else contextlib.nullcontext():
        open_tasks = []
        if world.rank == 0:
            for task in tasks_of(config, entries):
                todo = _open_part(task, store, retry_failed, outcome, observer)
                if todo:
                    open_tasks.append(todo)
        open_tasks = world.share(open_tasks)
        if open_tasks:
            work = Work(store, download, debug, threads or max(1, torch.get_num_threads() // jobs))
            run = (
                side_by_side(open_tasks, work, jobs, observer)
                if jobs > 1
                else (here(open_tasks, work, world, observer))
            )
            for results in run:
                outcome.add(results)
    return outcome


def _open_part(
    task: Task, store: Store, retry_failed: bool, outcome: Outcome, observer: Observer
) -> Task | None:
    """The task reduced to the cells without a record; None if there are none."""
    left = []
    for cell, entry in zip(task.cells, task.entries, strict=True):
        record = store.cell(cell.cell_id)
        if record is None or (record["status"] == "failed" and retry_failed):
            left.append((cell, entry))
        elif record["status"] == "failed":
            outcome.failed.append((cell.cell_id, record["reason"]))
        else:
            outcome.cached.append(cell.cell_id)
    if not left:
        kept = [reason for cell_id, reason in outcome.failed if cell_id == task.cells[0].cell_id]
        status = "failed" if kept else "cached"
        observer(task.progress(status, message="".join(kept)))
        return None
    return Task(task.config, tuple(c for c, _ in left), tuple(e for _, e in left))
