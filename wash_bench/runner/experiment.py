"""An experiment: its training tasks, and the call that runs what of them is not done yet.

Where all is done no torch is imported: to find that out takes the identities of cells alone.
"""

import contextlib
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from wash_bench.config import RunConfig
from wash_bench.data.catalog import FOLDER_PREFIX
from wash_bench.data.place import content_of
from wash_bench.distributed.group import agree
from wash_bench.distributed.spread import Spread
from wash_bench.errors import UsageError
from wash_bench.models.init_checkpoint import content_of_checkpoint
from wash_bench.plugins.registry import MethodEntry, make_method
from wash_bench.record.asked import Asked, write_asked
from wash_bench.record.claims import Claims
from wash_bench.record.identity import Cell, cell_of
from wash_bench.record.presence import alone
from wash_bench.record.store import Store
from wash_bench.runner.context import RunContext
from wash_bench.runner.device import device_type
from wash_bench.runner.jobs import jobs_for
from wash_bench.runner.pool import in_pool, in_process
from wash_bench.runner.queue import Outcome, open_part, sharded
from wash_bench.runner.task import TrainingTask
from wash_bench.runner.worker import share_out
from wash_bench.settings.sweep import Round, labels_of


def tasks_of(
    config: RunConfig, entries: Sequence[MethodEntry], labels: Mapping[str, str] | None = None
) -> list[TrainingTask]:
    """The trainings of an experiment, seeds outside, methods with one rule together."""
    device = device_type(config.training.device)
    dataset, content = config.training.dataset, None
    if dataset.startswith(FOLDER_PREFIX):  # images may have been added since the last run
        content = content_of(Path(dataset.removeprefix(FOLDER_PREFIX)).expanduser())
    start = _start(config)
    members = [content_of_checkpoint(Path(path)) for path in config.training.members]
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
                members,
            )
            groups.setdefault(cell.training_id, []).append((cell, entry))
    return [
        TrainingTask(config, tuple(c for c, _ in group), tuple(e for _, e in group), labels or {})
        for group in groups.values()
    ]


def groups_of(rounds: Sequence[Round]) -> list[list[TrainingTask]]:
    """Trainings in groups that can be carried out side by side.

    Returns:
        Groups of one data set and network. Where two rounds read one training, the later one's
        cells are in a later group, which finds it trained.
    """
    by_training: dict[str, list[dict[str, TrainingTask]]] = {}
    for (config, entries), labels in zip(rounds, labels_of(rounds), strict=True):
        groups = by_training.setdefault(config.training.model_dump_json(), [])
        for task in tasks_of(config, entries, labels):
            free = (group for group in groups if task.training_id not in group)
            if (group := next(free, None)) is None:
                groups.append(group := {})
            group[task.training_id] = task
    return [list(group.values()) for groups in by_training.values() for group in groups]


def run_experiment(
    config: RunConfig, entries: Sequence[MethodEntry], context: RunContext
) -> Outcome:
    """Run what is not done yet of an experiment: what became of each of its cells."""
    return run_rounds([(config, entries)], context)


def run_rounds(rounds: Sequence[Round], context: RunContext) -> Outcome:
    """The same of several settings of methods in one experiment."""
    world, training = context.world, rounds[0][0].training
    if world.ranks > 1 and ((context.jobs or 1) > 1 or context.worker):
        option = "--worker" if context.worker else "--jobs"
        raise UsageError(f"{option} trains each population in one process: leave it out here")
    Spread(training.population, world.ranks)  # refuses more processes than members
    for config, entries in rounds:
        agree(world, _identity(config, entries))
    return run_tasks(lambda: groups_of(rounds), context)


def run_tasks(groups: Callable[[], Iterable[list[TrainingTask]]], context: RunContext) -> Outcome:
    """Run what is not done yet of several groups of tasks, one group after another.

    Args:
        groups: gives the groups: tasks that can be carried out side by side, of one data set and
            network, each training once. It is called once the folder belongs to this run. Where
            two groups have a training in common, the later one finds it trained.
        context: how they are carried out.

    Returns:
        What became of each cell.

    Raises:
        UsageError: a time limit, which processes that share a population do not keep.
    """
    world, store, outcome = context.world, Store(context.out), Outcome()
    if context.time_limit and world.ranks > 1:
        raise UsageError("--time-limit is of trainings in one process: leave it out")
    if context.worker:
        with Claims(store.root, context.stale) as claims:
            taken = list(groups())
            write_asked(store.root, asked_of(taken), worker=True)
            _run_as_worker(taken, context, claims, outcome)
        return outcome
    with alone(store) if world.rank == 0 else contextlib.nullcontext():
        shares: list[list[TrainingTask]] = []
        if world.rank == 0:
            shares = list(sharded(groups(), context.shard))
            write_asked(store.root, asked_of(shares), worker=False)
        for tasks in world.share(shares):
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
            task.labels.get(cell.method, cell.method),
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
    if todo := context.world.share(todo):
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
    settings["device"] = device_type(config.training.device)
    return settings | {f"file of {e.name}": e.identity for e in entries if e.identity}
