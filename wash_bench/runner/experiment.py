"""A whole experiment: what of its cells is done already, and the rest, here or side by side."""

from __future__ import annotations

import multiprocessing
import os
import queue
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch

from wash_bench.config import RunConfig
from wash_bench.errors import WashBenchError
from wash_bench.record.identity import Cell, cell_of
from wash_bench.record.store import Store
from wash_bench.registry import MethodEntry, make_method
from wash_bench.runner.progress import Observer
from wash_bench.runner.setting import Setting, resolve_device
from wash_bench.runner.task import Task, perform


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
    groups: dict[str, list[tuple[Cell, MethodEntry]]] = {}
    for seed in config.seeds:
        for entry in entries:
            method = make_method(entry, config.set.get(entry.name, {}))
            cell = cell_of(config, device, method, entry.source_hash, seed)
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

    Raises:
        UsageError: the folder, device, data or network do not do.
        WashBenchError: the folder is in use, or the machine failed.
    """
    store = Store(out)
    outcome = Outcome()
    with store.locked():
        open_tasks = []
        for task in tasks_of(config, entries):
            todo = _open_part(task, store, retry_failed, outcome, observer)
            if todo:
                open_tasks.append(todo)
                observer(todo.progress("waiting", epochs=config.training.epochs))
        if open_tasks:
            threads = threads or max(1, torch.get_num_threads() // jobs)
            if jobs == 1:
                _run_here(open_tasks, store, threads, download, debug, observer, outcome)
            else:
                _run_side_by_side(
                    open_tasks, store, jobs, threads, download, debug, observer, outcome
                )
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


def _set_up_torch(threads: int) -> None:
    torch.set_num_threads(threads)
    # A resumed training must give the same bits on a GPU too.
    torch.backends.cudnn.deterministic = True
    torch.backends.cudnn.benchmark = False


def _run_here(
    tasks: list[Task],
    store: Store,
    threads: int,
    download: bool,
    debug: bool,
    observer: Observer,
    outcome: Outcome,
) -> None:
    _set_up_torch(threads)
    setting = Setting.of(tasks[0].config.training, download)
    setting.check()
    for task in tasks:
        outcome.add(perform(task, store, setting, observer, debug=debug))


def _run_side_by_side(
    tasks: list[Task],
    store: Store,
    jobs: int,
    threads: int,
    download: bool,
    debug: bool,
    observer: Observer,
    outcome: Outcome,
) -> None:
    setting = Setting.of(tasks[0].config.training, download)  # refuse here what cannot work
    setting.check()
    del setting
    context = multiprocessing.get_context("spawn")
    todo, reports = context.Queue(), context.Queue()
    for task in tasks:
        todo.put(task)
    workers = [
        context.Process(target=_work, args=(store.root, threads, debug, todo, reports))
        for _ in range(min(jobs, len(tasks)))
    ]
    for _ in workers:
        todo.put(None)
    for worker in workers:
        worker.start()
    try:
        done = 0
        while done < len(tasks):
            try:
                kind, payload = reports.get(timeout=1.0)
            except queue.Empty:
                if not any(worker.is_alive() for worker in workers):
                    raise WashBenchError(
                        "the worker processes died (out of memory?); run the same command again, "
                        "with fewer --jobs"
                    ) from None
                continue
            if kind == "progress":
                observer(payload)
            elif kind == "error":
                raise payload
            else:
                outcome.add(payload)
                done += 1
    finally:
        for worker in workers:
            if done < len(tasks):
                worker.terminate()
            worker.join()


def _die_with_parent() -> None:
    multiprocessing.parent_process().join()
    os._exit(1)


def _work(root: Path, threads: int, debug: bool, todo, reports) -> None:
    """A worker process: takes tasks until there are none. It ends with its parent, however that
    ends, since nobody else holds the lock on the folder then."""
    threading.Thread(target=_die_with_parent, daemon=True).start()
    _set_up_torch(threads)
    store = Store(root)
    setting = None
    try:
        while (task := todo.get()) is not None:
            setting = setting or Setting.of(task.config.training)
            results = perform(
                task,
                store,
                setting,
                lambda progress: reports.put(("progress", progress)),
                debug=debug,
            )
            reports.put(("done", results))
    except WashBenchError as error:
        reports.put(("error", error))
    except Exception as error:
        reports.put(("error", WashBenchError(f"{type(error).__name__}: {error}")))
    except KeyboardInterrupt:
        pass
