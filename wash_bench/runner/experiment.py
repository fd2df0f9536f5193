"""An experiment: its training tasks, and the call that runs what of them is not done yet.

Where all is done no torch is imported: to find that out takes the identities of cells alone.
"""

import contextlib
import math
from collections.abc import Iterable, Sequence
from typing import Any

from wash_bench.config import RunConfig
from wash_bench.distributed.process_group import check_same_config
from wash_bench.distributed.world import Placement
from wash_bench.errors import UsageError
from wash_bench.plugins.registry import MethodEntry
from wash_bench.record.asked import Asked, write_asked
from wash_bench.record.claims import Claims
from wash_bench.record.presence import alone
from wash_bench.record.store import Store
from wash_bench.runner.context import RunContext
from wash_bench.runner.jobs import jobs_for
from wash_bench.runner.pool import in_pool, in_process
from wash_bench.runner.queue import Outcome, open_part, sharded
from wash_bench.runner.task import TrainingTask
from wash_bench.runner.worker import share_out
from wash_bench.settings.cells import Cell, cells_of


def tasks_of(cells: Iterable[Cell]) -> list[TrainingTask]:
    """Return cells as tasks: those with one training and one evaluation together."""
    tasks: dict[tuple[str, str], list[Cell]] = {}
    for cell in cells:
        tasks.setdefault((cell.training_id, cell.config.model_dump_json()), []).append(cell)
    return [TrainingTask(tuple(own)) for own in tasks.values()]


def side_by_side(cells: Iterable[Cell]) -> list[list[TrainingTask]]:
    """Return tasks in groups that can be carried out side by side.

    Returns:
        Groups of one data set and network. Where two tasks read one training, the later one is in
        a later group, which finds it trained.
    """
    by_training: dict[str, list[dict[str, TrainingTask]]] = {}
    for task in tasks_of(cells):
        groups = by_training.setdefault(task.config.training.model_dump_json(), [])
        free = (group for group in groups if task.training_id not in group)
        if (group := next(free, None)) is None:
            groups.append(group := {})
        group[task.training_id] = task
    return [list(group.values()) for groups in by_training.values() for group in groups]


def run_experiment(
    config: RunConfig, entries: Sequence[MethodEntry], context: RunContext
) -> Outcome:
    """Run the cells of methods whose options stand in ``config.set``."""
    return run_cells(cells_of(config, entries, context.out), context)


def run_cells(cells: Sequence[Cell], context: RunContext) -> Outcome:
    """Run what is not done yet of a list of cells.

    Tasks of one data set and network are carried out side by side, such groups one after another.

    Args:
        cells: the cells; their ids are computed once the folder belongs to this run.
        context: how they are carried out.

    Returns:
        What became of each cell.

    Raises:
        UsageError: processes that share a population cannot do what is asked for.
    """
    world, store, outcome = context.world, Store(context.out), Outcome()
    if world.ranks > 1:
        if (context.jobs or 1) > 1 or context.worker:
            option = "--worker" if context.worker else "--jobs"
            raise UsageError(f"{option} trains each population in one process: leave it out here")
        if context.time_limit:
            raise UsageError("--time-limit is of trainings in one process: leave it out")
        for population in {cell.config.training.population for cell in cells}:
            Placement(population, world.ranks)  # refuses more processes than members
        check_same_config(world, _identity(cells))
    if context.worker:
        with Claims(store.root, context.stale) as claims:
            taken = side_by_side(cells)
            write_asked(store.root, asked_of(taken), worker=True)
            _run_as_worker(taken, context, claims, outcome)
        return outcome
    with alone(store) if world.rank == 0 else contextlib.nullcontext():
        shares: list[list[TrainingTask]] = []
        if world.rank == 0:
            shares = list(sharded(side_by_side(cells), context.shard))
            write_asked(store.root, asked_of(shares), worker=False)
        for tasks in world.broadcast_object(shares):
            _run_open(tasks, store, context, outcome)
    return outcome


def asked_of(groups: Iterable[Sequence[TrainingTask]]) -> list[Asked]:
    """The cells of tasks, for the folder's ``run.json``."""
    return [
        Asked(
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


def _run_open(
    tasks: Sequence[TrainingTask], store: Store, context: RunContext, outcome: Outcome
) -> None:
    """Carry out what of a group has no record yet; the run folder belongs to this run."""
    retry_before = math.inf if context.retry_failed else 0.0
    todo = []
    if context.world.rank == 0:
        for task in tasks:
            if part := open_part(task, store, retry_before, outcome, context.observer):
                todo.append(part)
    if todo := context.world.broadcast_object(todo):
        # By all tasks, and not by those left: what is begun goes on with as many threads.
        most = context.jobs or jobs_for(tasks, context)
        work = in_pool(todo, context, most) if most > 1 else in_process(todo, context)
        for results in work:
            outcome.add(results)


def _run_as_worker(
    groups: Sequence[Sequence[TrainingTask]], context: RunContext, claims: Claims, outcome: Outcome
) -> None:
    # What failed before now is tried again if so asked; what another worker retried is not.
    retry_before = claims.now() if context.retry_failed else 0.0
    while True:
        found = Outcome()
        for tasks in groups:
            share_out(tasks, context, claims, retry_before, found)
        outcome.finished += found.finished
        # Once more after a round with work: what others left behind meanwhile is open again.
        if not found.finished or len(groups) == 1:
            break
    outcome.cached += [cell for cell in found.cached if cell not in outcome.finished]
    outcome.failed, outcome.elsewhere = found.failed, found.elsewhere


def _identity(cells: Sequence[Cell]) -> dict[str, Any]:
    """What the processes of one run must have in common; data may lie elsewhere on each host."""
    trainings = {}
    for cell in cells:
        config = cell.config
        key = config.model_dump_json(exclude={"training": {"data_dir"}})
        if key not in trainings:
            settings = config.model_dump(mode="json", exclude={"training": {"data_dir"}})
            for section in ("training", "evaluation"):
                settings |= settings.pop(section)
            about = cell.inputs.about
            trainings[key] = settings | {name: about[name] for name in ("init", "device")
                                         if name in about}  # fmt: skip
    first, *others = trainings.values()
    entries = {cell.method: cell.spec.entry for cell in cells}
    return first | {
        "methods": list(dict.fromkeys(cell.label for cell in cells)),
        "set": {cell.label: dict(cell.spec.options) for cell in cells},
        "seeds": list(dict.fromkeys(cell.seed for cell in cells)),
        "settings of further rows": others,
        **{f"file of {name}": e.identity for name, e in entries.items() if e.identity},
    }
