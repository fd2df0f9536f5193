"""The queue of a run: which of its tasks are open, and what became of their cells."""

import contextlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from wash_bench.distributed.world import World
from wash_bench.record.locks import hold, owner_of
from wash_bench.record.schema import Record
from wash_bench.record.store import Store
from wash_bench.runner.progress import Observer
from wash_bench.runner.task import Results, TrainingTask

Retry = Mapping[str, tuple[int, int]]
"""Records of failures that are to be tried again: by cell, the stamp of the record."""


@dataclass
class Outcome:
    """Cell ids by what became of them.

    Attributes:
        finished: trained or measured now.
        cached: found done.
        failed: with the reason, now or earlier.
        held_by_others: with the process that works on it, as ``HOST, process PID``.
    """

    finished: list[str] = field(default_factory=list)
    cached: list[str] = field(default_factory=list)
    failed: list[tuple[str, str]] = field(default_factory=list)
    held_by_others: list[tuple[str, str]] = field(default_factory=list)

    def add(self, results: Results) -> None:
        """Enter the cells of one task."""
        for cell_id, reason in results:
            if reason is None:
                self.finished.append(cell_id)
            else:
                self.failed.append((cell_id, reason))

    @property
    def known(self) -> set[str]:
        """The cells of which it is clear what became of them."""
        return {*self.finished, *self.cached, *(cell_id for cell_id, _ in self.failed)}


def failures(groups: Iterable[Sequence[TrainingTask]], store: Store) -> Retry:
    """Return the records of failures as they are now."""
    ids = {cell.cell_id for tasks in groups for task in tasks for cell in task.cells}
    records = {cell_id: store.cell(cell_id) for cell_id in ids}
    failed = [cell_id for cell_id, data in records.items() if data and data["status"] == "failed"]
    return {cell_id: store.cell_stamp(cell_id) for cell_id in failed}


def open_part(task: TrainingTask, store: Store, retry: Retry) -> TrainingTask | None:
    """Return the task with its cells that have no record, or one of ``retry``; None if none has."""
    ids = [cell.cell_id for cell in task.cells]
    return task.part({each for each in ids if _is_open(store.cell(each), each, store, retry)})


def open_tasks(
    tasks: Sequence[TrainingTask], store: Store, retry: Retry, outcome: Outcome, observer: Observer
) -> list[TrainingTask]:
    """Return what is left to do of tasks; what became of the other cells goes into ``outcome``."""
    left, known = [], outcome.known
    for task in tasks:
        open_ids, failed = set(), []
        unknown = [cell.cell_id for cell in task.cells if cell.cell_id not in known]
        for cell_id in unknown:
            record = store.cell(cell_id)
            if record is None or _is_open(record, cell_id, store, retry):
                open_ids.add(cell_id)
            elif record["status"] == "failed":
                failed.append((cell_id, record["reason"]))
            else:
                outcome.cached.append(cell_id)
        outcome.failed += failed
        if part := task.part(open_ids):
            left.append(part)
        elif len(unknown) == len(task.cells):
            message = failed[0][1] if failed else ""
            observer(task.progress("failed" if failed else "cached", message=message))
    return left


def _is_open(record: Record | None, cell_id: str, store: Store, retry: Retry) -> bool:
    if record is None:
        return True
    # A failure that another process has tried again since has another stamp.
    return record["status"] == "failed" and retry.get(cell_id) == store.cell_stamp(cell_id)


def free(tasks: Sequence[TrainingTask], store: Store) -> list[TrainingTask]:
    """Return the tasks whose training no other process works on."""
    return [task for task in tasks if not owner_of(store.root, task.training_id)]


@contextlib.contextmanager
def taken(
    task: TrainingTask, store: Store, world: World, retry: Retry
) -> Iterator[TrainingTask | None]:
    """Hold the lock of a task's training, at rank 0 for all processes.

    Yields:
        What of the task is open; None if that is nothing, or another run has the training.
    """
    lock = hold(store.root, task.training_id) if world.rank == 0 else contextlib.nullcontext(True)
    with lock as held:
        # Another run may have just finished it.
        yield world.broadcast_object(
            open_part(task, store, retry) if held and world.rank == 0 else None
        )


def held_by_others(
    tasks: Sequence[TrainingTask], store: Store, known: Collection[str]
) -> list[tuple[str, str]]:
    """Return the cells of tasks but those of ``known``, with the process that works on each."""
    return [
        (cell.cell_id, owner_of(store.root, task.training_id) or "a process that has just ended")
        for task in tasks
        for cell in task.cells
        if cell.cell_id not in known
    ]


def sharded(
    groups: Iterable[list[TrainingTask]], shard: tuple[int, int]
) -> Iterator[list[TrainingTask]]:
    """Yield the i-th of k shares; a training that several groups read stays in one."""
    place: dict[str, int] = {}
    for tasks in groups:
        for task in tasks:
            place.setdefault(task.training_id, len(place))
        yield [task for task in tasks if place[task.training_id] % shard[1] == shard[0] - 1]
