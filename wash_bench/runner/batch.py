"""Trainings of one data set and network: what of them is open, carried out or shared out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import compress

from wash_bench.distributed.world import World
from wash_bench.record.claims import Claims
from wash_bench.record.store import Store
from wash_bench.runner.jobs import Work, here, side_by_side
from wash_bench.runner.progress import Observer
from wash_bench.runner.task import Task
from wash_bench.runner.worker import work_off


@dataclass
class Outcome:
    """Cell ids by what became of them: trained or measured now, found done, failed, others'."""

    finished: list[str] = field(default_factory=list)
    cached: list[str] = field(default_factory=list)
    failed: list[tuple[str, str]] = field(default_factory=list)
    elsewhere: list[tuple[str, str]] = field(default_factory=list)  # cell id, who works on it

    def add(self, results: Sequence[tuple[str, str | None]]) -> None:
        for cell_id, reason in results:
            if reason is None:
                self.finished.append(cell_id)
            else:
                self.failed.append((cell_id, reason))


def run_open(
    tasks: Sequence[Task],
    work: Work,
    world: World,
    retry_failed: bool,
    outcome: Outcome,
    observer: Observer,
) -> None:
    """Carry out what has no record yet; the run folder belongs to this run.

    Args:
        tasks: the trainings; rank 0's list counts.
        work: how tasks are carried out, and how many side by side.
        world: the processes that hold each population together.
        retry_failed: train failed cells again.
        outcome: is told what became of each cell.
        observer: is told the progress.
    """
    retry_before = math.inf if retry_failed else 0.0
    todo = []
    if world.rank == 0:
        parts = (open_part(task, work.store, retry_before, outcome, observer) for task in tasks)
        todo = [part for part in parts if part]
    todo = world.share(todo)
    if not todo:
        return
    run = (
        side_by_side(todo, work, work.jobs, observer)
        if work.jobs > 1
        else here(todo, work, world, observer)
    )
    for results in run:
        outcome.add(results)


def share_out(
    tasks: Sequence[Task],
    work: Work,
    claims: Claims,
    retry_before: float,
    outcome: Outcome,
    observer: Observer,
) -> None:
    """Carry out what no other worker on the same run folder works on.

    Args:
        tasks: all of the trainings.
        work: how tasks are carried out.
        claims: this worker's.
        retry_before: failures recorded before this time are tried again.
        outcome: is told what became of each cell, and who has the others.
        observer: is told the progress.
    """
    store = work.store

    def left_of(task: Task) -> Task | None:
        return open_part(task, store, retry_before, Outcome(), lambda progress: None)

    for results in work_off(tasks, left_of, work, claims, observer):
        outcome.add(results)
    done = {*outcome.finished, *(cell_id for cell_id, _ in outcome.failed)}
    for task in tasks:
        others = _part(task, [cell.cell_id not in done for cell in task.cells])
        left = others and open_part(others, store, 0.0, outcome, observer)
        if left:
            who = claims.holder(task.training_id) or "nobody any more"
            outcome.elsewhere += [(cell.cell_id, who) for cell in left.cells]


def open_part(
    task: Task, store: Store, retry_before: float, outcome: Outcome, observer: Observer
) -> Task | None:
    """The task reduced to the cells without a record; None if there are none. Failures that were
    recorded before the time ``retry_before`` count as without.
    """
    kept = []
    for cell in task.cells:
        record = store.cell(cell.cell_id)
        if record is None or (
            record["status"] == "failed" and store.cell_time(cell.cell_id) < retry_before
        ):
            kept.append(True)
            continue
        kept.append(False)
        if record["status"] == "failed":
            outcome.failed.append((cell.cell_id, record["reason"]))
        else:
            outcome.cached.append(cell.cell_id)
    left = _part(task, kept)
    if left is None:
        known = [reason for cell_id, reason in outcome.failed if cell_id == task.cells[0].cell_id]
        observer(task.progress("failed" if known else "cached", message="".join(known)))
    return left


def _part(task: Task, kept: Sequence[bool]) -> Task | None:
    """The task reduced to the cells that are kept; None if there are none."""
    cells, entries = (tuple(compress(items, kept)) for items in (task.cells, task.entries))
    return Task(task.config, cells, entries) if cells else None
