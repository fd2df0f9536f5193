"""Working off tasks in this process one after another, or in a pool of processes side by side."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import queue
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from multiprocessing.process import BaseProcess
from multiprocessing.queues import Queue
from typing import TYPE_CHECKING, Any

from wash_bench.distributed.world import LocalWorld
from wash_bench.errors import CellFailure, UsageError, WashBenchError, note
from wash_bench.record.store import Store
from wash_bench.runner.context import RunContext
from wash_bench.runner.jobs import bytes_of, fitting
from wash_bench.runner.progress import unobserved
from wash_bench.runner.task import Results, TrainingTask

if TYPE_CHECKING:
    from torch import nn

    from wash_bench.core.layout import Layout
    from wash_bench.runner.setting import Setting


_DIED = "the worker processes died (out of memory?); run the same command again, with fewer --jobs"


def in_process(tasks: Sequence[TrainingTask], context: RunContext) -> Iterator[Results]:
    """Carry out the tasks in this process (and those that share its world)."""
    _tell_waiting(tasks, context)
    from wash_bench.runner.perform import perform
    from wash_bench.runner.setting import Setting

    context.set_up_torch()
    if context.world.rank == 0:  # the one that may download
        setting = checked(tasks, context)
        context.world.barrier()
    else:
        context.world.barrier()
        setting = Setting.of(tasks[0].config.training)
    for task in tasks:
        yield perform(task, setting, Store(context.out), context)


def in_pool(tasks: Sequence[TrainingTask], context: RunContext, most: int) -> Iterator[Results]:
    """Carry out the tasks in ``most`` processes; a failure of the machine stops all."""
    # Where the context leaves their number open, there are no more than fit into memory.
    _tell_waiting(tasks, context)
    processes = _processes()
    todo, reports = processes.Queue(), processes.Queue()
    apart = context.but(observer=unobserved, world=LocalWorld())  # can be pickled
    # Refuses what cannot work, in a process of its own: this one need not import what trains.
    look = processes.Process(target=_look, args=(apart, tasks, reports))
    answer = None
    try:
        _start([look])
        kind, payload = answer = _next_report(reports, [look])
    finally:
        _end([look], at_once=answer is None)
    if kind == "error":
        raise payload
    jobs = context.jobs or fitting(most, payload)
    for task in tasks:
        todo.put(task)
    # Not daemons: a process may have data loader processes of its own.
    pool = [
        processes.Process(target=_process, args=(apart.but(jobs=jobs), todo, reports))
        for _ in range(min(jobs, len(tasks)))
    ]
    for _ in pool:
        todo.put(None)
    left = len(tasks)
    try:
        _start(pool)
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
        todo.cancel_join_thread()  # nobody takes what is left, and this process must not wait
        _end(pool, at_once=bool(left))


def _start(pool: Sequence[BaseProcess]) -> None:
    """Start processes; a signal that comes meanwhile waits until all of them are known here."""
    came: list[int] = []
    numbers = (signal.SIGINT, signal.SIGTERM)
    if threading.current_thread() is not threading.main_thread():
        numbers = ()
    before = {
        number: signal.signal(number, lambda sent, frame: came.append(sent)) for number in numbers
    }
    try:
        for process in pool:
            process.start()
    except (EOFError, ConnectionError) as error:  # the process that forks them is gone
        raise WashBenchError(_DIED) from error
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if came:
            signal.raise_signal(came[0])


def _end(pool: Sequence[BaseProcess], at_once: bool) -> None:
    """Wait for the end of those that were started, or end them."""
    for process in pool:
        if process.pid is not None:
            if at_once:
                process.terminate()
            process.join()


def _processes() -> Any:
    """How processes are made: on Linux forked from one that has imported what takes seconds."""
    if sys.platform != "linux":
        return multiprocessing.get_context("spawn")
    from multiprocessing import forkserver, resource_tracker

    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        ["wash_bench.runner.perform", "timm"]
    )  # and has computed nothing
    # Ctrl-C is for this process, which ends the others; they inherit that it is blocked. One that
    # comes meanwhile arrives afterwards.
    resource_tracker.ensure_running()  # which ends with the signal let through
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        forkserver.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    return context


def checked(tasks: Sequence[TrainingTask], context: RunContext) -> Setting:
    """Return the setting of tasks of one data set, once it is clear that all can work."""
    from wash_bench.runner.setting import Setting

    setting = Setting.of(tasks[0].config.training, context.download)
    for task in with_different_settings(tasks):
        n, ranks = task.training.population, context.world.ranks
        if n < ranks:
            raise UsageError(
                f"method {task.cells[0].method!r} trains {n} network{'s' if n > 1 else ''}, which "
                f"{ranks} processes cannot share: run it without --nproc"
            )
        check_task(task, setting)
    check_rules(tasks, setting)
    say_dead(tasks, setting)
    return setting


def say_dead(tasks: Sequence[TrainingTask], setting: Setting) -> None:
    """Note the networks of tasks with parameters that no image gives a gradient."""
    own = [setting.but(task.training) for task in with_different_settings(tasks)]
    for text in dict.fromkeys(each.about_dead() for each in own):
        if text:
            note(text)


def check_rules(tasks: Sequence[TrainingTask], setting: Setting) -> None:
    """Refuse, as a UsageError before any training, a method that its network is not for."""
    networks: dict[str, nn.Module] = {}
    done: set[tuple[str, str]] = set()
    for task in tasks:
        key = task.training.model_dump_json()
        if key not in networks:
            networks[key] = setting.but(task.training).fresh(0)
        for method in task.methods():
            if (key, method.name) in done:
                continue
            done.add((key, method.name))
            try:
                method.check_network(networks[key])
            except CellFailure as failure:
                raise UsageError(f"method {method.name!r}: {failure}") from None


def with_different_settings(tasks: Sequence[TrainingTask]) -> list[TrainingTask]:
    """Return the first task of each settings of a training."""
    first: dict[str, TrainingTask] = {}
    for task in tasks:
        first.setdefault(task.training.model_dump_json(), task)
    return list(first.values())


def check_task(task: TrainingTask, setting: Setting) -> Layout:
    """Return the layout of a member; a UsageError, before any training, if a task cannot work."""
    try:
        return setting.but(task.training).check(task.config.evaluation)
    except UsageError as error:
        if task.training == task.config.training:
            raise
        raise UsageError(f"method {task.cells[0].method!r}: {error}") from None


def _tell_waiting(tasks: Sequence[TrainingTask], context: RunContext) -> None:
    for task in tasks:
        context.observer(task.progress("waiting", epochs=task.training.epochs))


def _next_report(reports: Queue[Any], pool: Sequence[BaseProcess]) -> tuple[str, Any]:
    while True:
        try:
            return reports.get(timeout=1.0)
        except queue.Empty:
            if not any(process.is_alive() for process in pool):
                raise WashBenchError(_DIED) from None


def _look(context: RunContext, tasks: Sequence[TrainingTask], reports: Queue[Any]) -> None:
    """Report that tasks can work, with the most memory in bytes that one takes, or why not."""
    threading.Thread(target=_die_with_parent, daemon=True).start()
    with _failures_reported(reports):
        from wash_bench.runner.setting import Setting

        setting = Setting.of(tasks[0].config.training, context.download)
        found = with_different_settings(tasks)
        needed = [bytes_of(task.training, check_task(task, setting)) for task in found]
        say_dead(tasks, setting)
        check_rules(tasks, setting)
        reports.put(("fits", max(needed)))


def _process(context: RunContext, todo: Queue[Any], reports: Queue[Any]) -> None:
    """A process of the pool: takes tasks until there are none.

    It ends with its parent, however that ends, since nobody else holds the lock on the folder then.
    """
    from wash_bench.runner.perform import perform
    from wash_bench.runner.setting import Setting

    threading.Thread(target=_die_with_parent, daemon=True).start()
    context.set_up_torch()
    context = context.but(observer=lambda progress: reports.put(("progress", progress)))
    setting = None
    with _failures_reported(reports):
        while (task := todo.get()) is not None:
            setting = setting or Setting.of(task.config.training)
            reports.put(("done", perform(task, setting, Store(context.out), context)))


@contextlib.contextmanager
def _failures_reported(reports: Queue[Any]) -> Iterator[None]:
    """Leave the telling of errors to the parent."""
    try:
        yield
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
