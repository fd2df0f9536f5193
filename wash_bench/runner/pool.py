"""Working off tasks in this process one after another, or in a pool of processes side by side."""

from __future__ import annotations

import multiprocessing
import os
import queue
import sys
import threading
from collections.abc import Iterator, Sequence
from multiprocessing.process import BaseProcess
from multiprocessing.queues import Queue
from typing import Any

from wash_bench.distributed.world import LocalWorld
from wash_bench.errors import WashBenchError
from wash_bench.record.store import Store
from wash_bench.runner.context import RunContext
from wash_bench.runner.perform import perform
from wash_bench.runner.progress import unobserved
from wash_bench.runner.setting import Setting
from wash_bench.runner.task import Results, TrainingTask


def in_process(tasks: Sequence[TrainingTask], context: RunContext) -> Iterator[Results]:
    """Carry out the tasks in this process (and those that share its world)."""
    context.set_up_torch()
    if context.world.rank == 0:  # the one that may download
        setting = checked(tasks[0], context)
        context.world.wait()
    else:
        context.world.wait()
        setting = Setting.of(tasks[0].config.training)
    _tell_waiting(tasks, context)
    for task in tasks:
        yield perform(task, setting, Store(context.out), context)


def in_pool(tasks: Sequence[TrainingTask], context: RunContext) -> Iterator[Results]:
    """Carry out the tasks in ``context.jobs`` processes; a failure of the machine stops all."""
    checked(tasks[0], context)  # refuse here what cannot work
    _tell_waiting(tasks, context)
    processes = _processes()
    todo, reports = processes.Queue(), processes.Queue()
    for task in tasks:
        todo.put(task)
    apart = context.but(observer=unobserved, world=LocalWorld())  # can be pickled
    # Not daemons: a process may have data loader processes of its own.
    pool = [
        processes.Process(target=_process, args=(apart, todo, reports))
        for _ in range(min(context.jobs, len(tasks)))
    ]
    for _ in pool:
        todo.put(None)
    for process in pool:
        process.start()
    left = len(tasks)
    try:
        while left:
            kind, payload = _next_report(reports, pool)
            if kind == "progress":
                context.observer(payload)
            elif kind == "error":
                raise payload
            else:
                left -= 1
                yield payload
    finally:
        for process in pool:
            if left:
                process.terminate()
            process.join()


def _processes() -> Any:
    """How processes are made: on Linux forked from one that has imported what takes seconds."""
    if sys.platform != "linux":
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__, "timm"])  # and has computed nothing
    return context


def checked(task: TrainingTask, context: RunContext) -> Setting:
    """The setting of a task, once it is clear that it can work."""
    setting = Setting.of(task.config.training, context.download)
    setting.check()
    return setting


def _tell_waiting(tasks: Sequence[TrainingTask], context: RunContext) -> None:
    for task in tasks:
        context.observer(task.progress("waiting", epochs=task.config.training.epochs))


def _next_report(reports: Queue[Any], pool: Sequence[BaseProcess]) -> tuple[str, Any]:
    while True:
        try:
            return reports.get(timeout=1.0)
        except queue.Empty:
            if not any(process.is_alive() for process in pool):
                raise WashBenchError(
                    "the worker processes died (out of memory?); run the same command again, "
                    "with fewer --jobs"
                ) from None


def _process(context: RunContext, todo: Queue[Any], reports: Queue[Any]) -> None:
    """A process of the pool: takes tasks until there are none.

    It ends with its parent, however that ends, since nobody else holds the lock on the folder then.
    """
    threading.Thread(target=_die_with_parent, daemon=True).start()
    context.set_up_torch()
    context = context.but(observer=lambda progress: reports.put(("progress", progress)))
    setting = None
    try:
        while (task := todo.get()) is not None:
            setting = setting or Setting.of(task.config.training)
            reports.put(("done", perform(task, setting, Store(context.out), context)))
    except WashBenchError as error:
        reports.put(("error", error))
    except Exception as error:
        reports.put(("error", WashBenchError(f"{type(error).__name__}: {error}")))
    except KeyboardInterrupt:
        pass


def _die_with_parent() -> None:
    if parent := multiprocessing.parent_process():
        parent.join()
        os._exit(1)
