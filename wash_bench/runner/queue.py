"""The queue of a run: which of its tasks are open, and what became of their cells."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from wash_bench.record.store import Store
from wash_bench.runner.progress import Observer, unobserved
from wash_bench.runner.task import Results, TrainingTask


@dataclass
class Outcome:
    """Cell ids by what became of them: trained or measured now, found done, failed, others'."""

    finished: list[str] = field(default_factory=list)
    cached: list[str] = field(default_factory=list)
    failed: list[tuple[str, str]] = field(default_factory=list)
    elsewhere: list[tuple[str, str]] = field(default_factory=list)  # cell id, who works on it

    def add(self, results: Results) -> None:
        """Enter the cells of one task."""
        for cell_id, reason in results:
            if reason is None:
                self.finished.append(cell_id)
            else:
                self.failed.append((cell_id, reason))


def open_part(
    task: TrainingTask,
    store: Store,
    retry_before: float,
    outcome: Outcome | None = None,
    observer: Observer = unobserved,
) -> TrainingTask | None:
    """The task with its cells without a record, or one failed before ``retry_before``."""
    outcome = outcome or Outcome()
    kept, known = set(), {}
    for cell in task.cells:
        record = store.cell(cell.cell_id)
        if record is None:
            kept.add(cell.cell_id)
        elif record["status"] != "failed":
            outcome.cached.append(cell.cell_id)
        elif store.cell_time(cell.cell_id) < retry_before:
            kept.add(cell.cell_id)
        else:
            known[cell.cell_id] = record["reason"]
    outcome.failed += known.items()
    if not kept:
        first = task.cells[0].cell_id
        status = "failed" if first in known else "cached"
        observer(task.progress(status, message=known.get(first, "")))
    return task.part(kept)


def sharded(
    groups: Iterable[list[TrainingTask]], shard: tuple[int, int]
) -> Iterator[list[TrainingTask]]:
    """The i-th of k shares; a training that several groups read stays in one."""
    place: dict[str, int] = {}
    for tasks in groups:
        for task in tasks:
            place.setdefault(task.training_id, len(place))
        yield [task for task in tasks if place[task.training_id] % shard[1] == shard[0] - 1]
