"""Builds training tasks of cells and runs the unfinished ones.

Where all is done no torch is imported: to find that out takes the identities of cells alone.
"""

import contextlib
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from wash_bench.config import RunConfig
from wash_bench.distributed.process_group import check_same_config
from wash_bench.distributed.world import Placement
from wash_bench.errors import UsageError, note
from wash_bench.plugins.registry import MethodEntry
from wash_bench.record.locks import sweep
from wash_bench.record.store import ManifestCell, Store, write_manifest
from wash_bench.runner.context import RunContext
from wash_bench.runner.jobs import jobs_for
from wash_bench.runner.pool import in_pool
from wash_bench.runner.queue import (
    Outcome,
    failures,
    free,
    held_by_others,
    open_tasks,
    sharded,
    taken,
)
from wash_bench.runner.task import TrainingTask
from wash_bench.study.cells import Cell, cells_of

LOOK = 1.0  # seconds between two looks at what others work on
# A process that was killed leaves helpers that hold its lock until they notice that it is gone.
PATIENCE = 6.0  # seconds


def tasks_of(cells: Iterable[Cell]) -> list[TrainingTask]:
    """Return cells as tasks: those with one training and one evaluation together."""
    tasks: dict[tuple[str, str], list[Cell]] = {}
    for cell in cells:
        tasks.setdefault((cell.training_id, cell.config.key()), []).append(cell)
    return [TrainingTask(tuple(own)) for own in tasks.values()]


def side_by_side(cells: Iterable[Cell]) -> list[list[TrainingTask]]:
    """Return tasks in groups that can be carried out side by side.

    Returns:
        Groups of one data set and network. Where two tasks read one training, the later one is in
        a later group, which finds it trained.
    """
    by_training: dict[str, list[dict[str, TrainingTask]]] = {}
    for task in tasks_of(cells):
        groups = by_training.setdefault(task.config.training.key(), [])
        free = (group for group in groups if task.training_id not in group)
        if (group := next(free, None)) is None:
            groups.append(group := {})
        group[task.training_id] = task
    return [list(group.values()) for groups in by_training.values() for group in groups]


_RUNNING = threading.Lock()
"""Held while this process runs cells: what torch computes depends on settings of the process."""


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """Refuse, as a UsageError, a second thread of this process."""
    if not _RUNNING.acquire(blocking=False):
        raise UsageError(
            "another thread of this program is running cells: threads share torch's settings, so "
            "run one after another, or in processes of their own"
        )
    try:
        yield
    finally:
        _RUNNING.release()


def run_experiment(
    config: RunConfig, entries: Sequence[MethodEntry], context: RunContext
) -> Outcome:
    """Run the cells of methods whose options stand in ``config.set``."""
    return run_cells(cells_of(config, entries, context.out), context)


def run_cells(cells: Sequence[Cell], context: RunContext) -> Outcome:
    """Run what is not done yet of a list of cells.

    Tasks of one data set and network are carried out side by side, such groups one after another.
    Trainings that other processes work on are left to them. With ``context.worker`` it waits until
    they have ended, and takes what they leave.

    Returns:
        What became of each cell. What cannot work is a UsageError before any training; where the
        machine fails a WashBenchError says so, and the same call goes on from what is there.
    """
    with _one_thread():
        world = context.world
        _check(cells, context)
        store, outcome, groups, retry = Store(context.out), Outcome(), [], {}
        if world.rank == 0:
            sweep(store.root)
            groups = list(sharded(side_by_side(cells), context.shard))
            write_manifest(store.root, manifest_of(groups))
            retry = failures(groups, store) if context.retry_failed else {}
        groups, announced = world.broadcast_object(groups), False
        give_up = time.monotonic() + PATIENCE
        while True:
            known, left = len(outcome.known), []
            for tasks in groups:
                todo = []
                if world.rank == 0:
                    left += (found := open_tasks(tasks, store, retry, outcome, context.observer))
                    todo = free(found, store)
                if not (todo := world.broadcast_object(todo)):
                    continue
                for task in todo:
                    context.observer(task.progress("waiting", epochs=task.training.epochs))
                # By all tasks, and not by those left: what is begun goes on with as many threads.
                most = context.jobs or (1 if context.worker else jobs_for(tasks, context))
                if most > 1:
                    for results in in_pool(todo, context, retry, most):
                        outcome.add(results)
                    continue
                from wash_bench.runner.perform import train_and_evaluate
                from wash_bench.runner.training_setup import setting_for

                context.set_up_torch()
                setting = setting_for(todo, context)
                for task in todo:
                    with taken(task, store, world, retry) as part:
                        if part:
                            outcome.add(train_and_evaluate(part, setting, store, context))
            outcome.held_by_others = held_by_others(left, store, outcome.known)
            worked = len(outcome.known) > known  # and others may have left something meanwhile
            if worked:
                give_up = time.monotonic() + PATIENCE
            waits = context.worker or time.monotonic() < give_up
            if not world.broadcast_object(bool(outcome.held_by_others) and (worked or waits)):
                return outcome
            if context.worker and not (worked or announced):
                owners = sorted({owner for _, owner in outcome.held_by_others})
                note(f"waits for cells that other processes run: {'; '.join(owners)}")
                announced = True
            if not worked:
                time.sleep(LOOK)


def manifest_of(groups: Iterable[Sequence[TrainingTask]]) -> list[ManifestCell]:
    """Return the cells of tasks, for the folder's ``run.json``."""
    return [
        ManifestCell(
            cell.cell_id,
            cell.training_id,
            cell.experiment_id,
            cell.method,
            cell.seed,
            cell.label,
            task.training.epochs,
        )
        for tasks in groups
        for task in tasks
        for cell in task.cells
    ]


def _check(cells: Sequence[Cell], context: RunContext) -> None:
    """Refuse ways to carry out a run that do not go together, or that differ between processes."""
    world = context.world
    if context.time_limit and threading.current_thread() is not threading.main_thread():
        raise UsageError("--time-limit works in the main thread alone: leave it out")
    if world.ranks == 1:
        return
    if (context.jobs or 1) > 1 or context.worker:
        option = "--worker" if context.worker else "--jobs"
        raise UsageError(f"{option} trains each population in one process: leave it out here")
    if context.time_limit:
        raise UsageError("--time-limit is of trainings in one process: leave it out")
    for population in {cell.config.training.population for cell in cells}:
        Placement(population, world.ranks)  # refuses more processes than members
    check_same_config(world, _identity(cells))


def _identity(cells: Sequence[Cell]) -> dict[str, Any]:
    """What the processes of one run must have in common; data may lie elsewhere on each host."""
    trainings = {}
    for cell in cells:
        config = cell.config
        key = config.key(exclude={"training": {"data_dir"}})
        if key not in trainings:
            settings = config.model_dump(mode="json", exclude={"training": {"data_dir"}})
            for section in ("training", "evaluation"):
                settings |= settings.pop(section)
            about = cell.inputs.about
            names = {"init": "init", "device": "device", "dataset": "dataset", "content": "images"}
            own = {names[key]: value for key, value in about.items() if key in names}
            trainings[key] = settings | own
    first, *others = trainings.values()
    entries = {cell.method: cell.spec.entry for cell in cells}
    return first | {
        "methods": list(dict.fromkeys(cell.label for cell in cells)),
        "set": {cell.label: dict(cell.spec.options) for cell in cells},
        "seeds": list(dict.fromkeys(cell.seed for cell in cells)),
        "settings of further rows": others,
        **{f"file of {name}": e.identity for name, e in entries.items() if e.identity},
    }
