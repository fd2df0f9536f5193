"""Runs tasks side by side in a pool of processes (``--jobs``)."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from multiprocessing.connection import Connection
from multiprocessing.queues import SimpleQueue
from typing import TYPE_CHECKING, Any

from wash_bench import stop
from wash_bench.distributed.world import LocalWorld
from wash_bench.errors import WashBenchError
from wash_bench.record.store import Store
from wash_bench.runner.context import RunContext
from wash_bench.runner.jobs import bytes_of, fitting
from wash_bench.runner.progress import Progress, unobserved
from wash_bench.runner.queue import Retry, taken
from wash_bench.runner.task import Results, TrainingTask

if TYPE_CHECKING:
    from wash_bench.runner.training_setup import TrainingSetup

_DIED = (
    "a process of --jobs died (out of memory?); run the same command again, with fewer --jobs, and"
    " it goes on from the last checkpoints"
)


def in_pool(
    tasks: Sequence[TrainingTask], context: RunContext, retry: Retry, most: int
) -> Iterator[Results]:
    """Carry out tasks in up to ``most`` processes; a failure of the machine stops all.

    Where the context leaves their number open, there are no more than fit into memory.

    Yields:
        What became of the cells of each task; nothing where another run has its training.

    Raises:
        WashBenchError: a process died, or the machine failed in it.
    """
    processes = _processes()
    # A process of the pool ends when nobody holds the other end: when this one closes it, or dies.
    lifeline, held = processes.Pipe(duplex=False)
    reports: SimpleQueue[Progress] = processes.SimpleQueue()
    slots: SimpleQueue[int] = processes.SimpleQueue()
    for slot in range(most):
        slots.put(slot)
    pool = ProcessPoolExecutor(most, processes, _begin, (lifeline, reports, slots))
    sent = context.but(observer=unobserved, world=LocalWorld())  # can be pickled
    ended = False
    try:
        # In a process of the pool: this one need not import what trains.
        needed = _submit(pool, _check, sent, tasks).result()
        jobs = context.jobs or fitting(most, needed)
        left, running = list(reversed(tasks)), set[Future[Results]]()
        with stop.deferred():
            while left or running:
                if stop.requested():  # each saves its training and ends
                    left.clear()
                    for worker in multiprocessing.active_children():
                        worker.terminate()
                while left and len(running) < jobs:
                    running.add(_submit(pool, _carry_out, sent.but(jobs=jobs), left.pop(), retry))
                done, running = wait(running, 0.1, FIRST_COMPLETED)
                while not reports.empty():
                    context.observer(reports.get())
                for future in done:
                    if not isinstance(future.exception(), KeyboardInterrupt):  # it has saved
                        yield future.result()
        ended = True
    except BrokenProcessPool as error:
        time.sleep(0.5)  # a signal that ended the whole group reaches this process too
        raise WashBenchError(_DIED) from error
    finally:
        if not ended:
            held.close()
        pool.shutdown(cancel_futures=True)
        held.close()


def _submit(pool: ProcessPoolExecutor, function: Any, *arguments: Any) -> Future[Any]:
    """Submit a call; a process that begins for it does not import the program's own script.

    Returns:
        The call's future.

    Raises:
        BrokenProcessPool: no process can be started.
    """
    # It needs nothing of that, and without a main guard the script would begin again in it.
    main = vars(sys.modules["__main__"])
    saved = {name: main[name] for name in ("__spec__", "__file__") if name in main}
    main["__spec__"] = None
    main.pop("__file__", None)
    try:
        # Of a process that is being started when a signal comes, the pool would not know.
        with stop.blocked():
            return pool.submit(function, *arguments)
    except (EOFError, ConnectionError) as error:  # the process that forks them is gone
        raise BrokenProcessPool from error
    finally:
        main.update(saved)


def _processes() -> Any:
    """Return how processes are made: on Linux forked from one that has imported what is slow."""
    if sys.platform != "linux":
        return multiprocessing.get_context("spawn")
    from multiprocessing import forkserver, resource_tracker

    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["wash_bench.runner.perform", "timm"])
    resource_tracker.ensure_running()  # which ends with the signal let through
    # Signals are for this process, which ends the others; they inherit that these are blocked.
    with stop.blocked():
        forkserver.ensure_running()
    return context


# In a process of the pool.
_reports: SimpleQueue[Progress]
_setting: TrainingSetup | None = None
_threads_are_set = False


def _begin(lifeline: Connection, reports: SimpleQueue[Progress], slots: SimpleQueue[int]) -> None:
    """Set up a process of the pool: it ends with its parent, and leaves Ctrl-C to it.

    Args:
        lifeline: closed when the parent ends.
        reports: takes the progress.
        slots: has a number for each process; ``cuda`` is the GPU of that number, by turns.
    """
    global _reports
    _reports = reports
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for each in stop.SIGNALS:
        signal.signal(each, stop.note_in_worker)
    if sys.platform != "win32":
        signal.pthread_sigmask(signal.SIG_UNBLOCK, stop.SIGNALS)
    os.environ["LOCAL_RANK"] = str(slots.get())
    threading.Thread(target=_end_with, args=(lifeline,), daemon=True).start()


def _report(progress: Progress) -> None:
    # Short enough for a pipe to take as a whole: a process that is killed leaves no half of one.
    _reports.put(replace(progress, message=progress.message[:500]))


def _end_with(lifeline: Connection) -> None:
    with contextlib.suppress(EOFError, OSError):
        lifeline.recv()
    os._exit(1)


def _check(context: RunContext, tasks: Sequence[TrainingTask]) -> float:
    """Refuse tasks that cannot work; the most memory in bytes that one takes."""
    global _setting
    with _pickled_failures():
        from wash_bench.runner.training_setup import TrainingSetup, check_tasks

        _setting = TrainingSetup.of(tasks[0].config.training, context.download)
        return max(bytes_of(*each) for each in check_tasks(tasks, _setting))


def _carry_out(context: RunContext, task: TrainingTask, retry: Retry) -> Results:
    """Carry out a task, unless another run has its training or has just finished it."""
    global _setting, _threads_are_set
    with _pickled_failures():
        from wash_bench.runner.perform import train_and_evaluate
        from wash_bench.runner.training_setup import TrainingSetup

        if not _threads_are_set:
            context.set_up_torch()
            _threads_are_set = True
        _setting = _setting or TrainingSetup.of(task.config.training)
        context, store = context.but(observer=_report), Store(context.out)
        with stop.work_of_worker(), taken(task, store, context.world, retry) as part:
            return train_and_evaluate(part, _setting, store, context) if part else []


@contextlib.contextmanager
def _pickled_failures() -> Iterator[None]:
    """Turn an error of whatever kind into one that can be sent to the parent."""
    try:
        yield
    except WashBenchError:
        raise
    except Exception as error:
        raise WashBenchError(f"{type(error).__name__}: {error}") from None
