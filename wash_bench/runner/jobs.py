"""Carrying out tasks: one after another in this process, or side by side in several."""

from __future__ import annotations

import multiprocessing
import os
import queue
import threading
from collections.abc import Iterator
from dataclasses import dataclass

import torch

from wash_bench.distributed.world import LocalWorld, World
from wash_bench.errors import WashBenchError
from wash_bench.record import environment
from wash_bench.record.store import Store
from wash_bench.runner.progress import Observer
from wash_bench.runner.setting import Setting
from wash_bench.runner.task import Results, Task, perform


@dataclass(frozen=True)
class Work:
    """How tasks are carried out.

    Attributes:
        store: the run folder.
        download: whether a data set may be fetched.
        debug: whether tracebacks of failing cells are printed.
        threads: CPU threads of each training.
        jobs: trainings side by side, for the record.
    """

    store: Store
    download: bool
    debug: bool
    threads: int
    jobs: int = 1

    def set_up_torch(self) -> None:
        environment.jobs = self.jobs
        torch.set_num_threads(self.threads)
        # A resumed training must give the same bits on a GPU too.
        torch.backends.cudnn.deterministic = True
        torch.backends.cudnn.benchmark = False


def here(tasks: list[Task], work: Work, world: World, observer: Observer) -> Iterator[Results]:
    """Carry out the tasks in this process (and those that share its world)."""
    work.set_up_torch()
    if world.rank == 0:  # the one that may download
        setting = checked(tasks[0], work)
        world.wait()
    else:
        world.wait()
        setting = Setting.of(tasks[0].config.training)
    _tell_waiting(tasks, observer)
    for task in tasks:
        yield perform(task, work.store, setting, world, observer, debug=work.debug)


def side_by_side(tasks: list[Task], work: Work, jobs: int, observer: Observer) -> Iterator[Results]:
    """Carry out the tasks in ``jobs`` processes.

    Raises:
        WashBenchError: the machine failed in one of them; the others are stopped.
    """
    checked(tasks[0], work)  # refuse here what cannot work
    _tell_waiting(tasks, observer)
    context = multiprocessing.get_context("spawn")
    todo, reports = context.Queue(), context.Queue()
    for task in tasks:
        todo.put(task)
    # Not daemons: a job may have data loader processes of its own.
    workers = [
        context.Process(target=_job, args=(work, todo, reports))
        for _ in range(min(jobs, len(tasks)))
    ]
    for _ in workers:
        todo.put(None)
    for worker in workers:
        worker.start()
    left = len(tasks)
    try:
        while left:
            kind, payload = _next_report(reports, workers)
            if kind == "progress":
                observer(payload)
            elif kind == "error":
                raise payload
            else:
                left -= 1
                yield payload
    finally:
        for worker in workers:
            if left:
                worker.terminate()
            worker.join()


def _tell_waiting(tasks: list[Task], observer: Observer) -> None:
    for task in tasks:
        observer(task.progress("waiting", epochs=task.config.training.epochs))


def checked(task: Task, work: Work) -> Setting:
    """The setting of an experiment, once it is clear that it can work."""
    setting = Setting.of(task.config.training, work.download)
    setting.check()
    return setting


def _next_report(reports, workers: list) -> tuple:
    while True:
        try:
            return reports.get(timeout=1.0)
        except queue.Empty:
            if not any(worker.is_alive() for worker in workers):
                raise WashBenchError(
                    "the worker processes died (out of memory?); run the same command again, "
                    "with fewer --jobs"
                ) from None


def _die_with_parent() -> None:
    multiprocessing.parent_process().join()
    os._exit(1)


def _job(work: Work, todo, reports) -> None:
    """A worker process: takes tasks until there are none. It ends with its parent, however that
    ends, since nobody else holds the lock on the folder then.
    """
    threading.Thread(target=_die_with_parent, daemon=True).start()
    work.set_up_torch()
    setting = None
    try:
        while (task := todo.get()) is not None:
            setting = setting or Setting.of(task.config.training)
            results = perform(
                task,
                work.store,
                setting,
                LocalWorld(),
                lambda progress: reports.put(("progress", progress)),
                debug=work.debug,
            )
            reports.put(("done", results))
    except WashBenchError as error:
        reports.put(("error", error))
    except Exception as error:
        reports.put(("error", WashBenchError(f"{type(error).__name__}: {error}")))
    except KeyboardInterrupt:
        pass
