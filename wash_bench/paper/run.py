"""Running the cells of a table: whatever is not done yet, trainings of equal settings together."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from wash_bench.distributed.world import LocalWorld
from wash_bench.paper.cells import Line
from wash_bench.record.claims import STALE, Claims
from wash_bench.record.presence import alone
from wash_bench.record.store import Store
from wash_bench.runner.batch import Outcome, run_open, share_out
from wash_bench.runner.experiment import tasks_of
from wash_bench.runner.jobs import Work
from wash_bench.runner.plan import CellPlan, Times, plan_experiment
from wash_bench.runner.progress import Observer
from wash_bench.runner.task import Task


def run_lines(
    lines: Sequence[Line],
    out: Path,
    *,
    jobs: int,
    threads: int,
    download: bool,
    retry_failed: bool,
    debug: bool,
    observer: Observer,
    shard: tuple[int, int] = (1, 1),
    worker: bool = False,
    stale: float = STALE,
) -> Outcome:
    """Run what is not done yet; the same call goes on with what was stopped.

    Args:
        lines: the table's.
        out: the run folder; tables may share it, and then share equal cells.
        jobs: trainings side by side.
        threads: CPU threads of each; 0 for the cores divided by the jobs.
        download: whether a data set may be fetched.
        retry_failed: train failed cells again.
        debug: print tracebacks of failing cells.
        observer: is told the progress.
        shard: (i, k), from 1: only every k-th training, beginning with the i-th.
        worker: share the folder with other workers: take what nobody works on.
        stale: seconds after which a worker that gives no sign of life is replaced.

    Returns:
        What became of the cells. A UsageError says that the folder, device, data or network do
        not do, a WashBenchError that the folder is in use or the machine failed.
    """
    store, outcome = Store(out), Outcome()
    threads = threads or max(1, torch.get_num_threads() // jobs)
    work = Work(store, download, debug, threads, jobs)
    if worker:
        with Claims(store.root, stale) as claims:
            retry_before = claims.now() if retry_failed else 0.0
            # Once more after a round with work: what others left behind meanwhile is open again.
            while (found := _round(lines, work, claims, retry_before, observer)).finished:
                outcome.finished += found.finished
            outcome.cached += [cell for cell in found.cached if cell not in outcome.finished]
            outcome.failed, outcome.elsewhere = found.failed, found.elsewhere
        return outcome
    with alone(store):
        for tasks in sharded(batches(lines), shard):
            run_open(tasks, work, LocalWorld(), retry_failed, outcome, observer)
    return outcome


def _round(
    lines: Sequence[Line], work: Work, claims: Claims, retry_before: float, observer: Observer
) -> Outcome:
    outcome = Outcome()
    for tasks in batches(lines):
        share_out(tasks, work, claims, retry_before, outcome, observer)
    return outcome


def sharded(groups: Iterable[list[Task]], shard: tuple[int, int]) -> Iterator[list[Task]]:
    """The i-th of k shares of the trainings; a training that several lines read stays in one."""
    place: dict[str, int] = {}
    for tasks in groups:
        for task in tasks:
            place.setdefault(task.training_id, len(place))
        yield [t for t in tasks if place[t.training_id] % shard[1] == shard[0] - 1]


def batches(lines: Sequence[Line]) -> Iterator[list[Task]]:
    """The trainings in groups that can be carried out side by side.

    Args:
        lines: the table's.

    Yields:
        Trainings with one data set and network. Where two lines read one training (as greedy soup
        and the naive ensemble do) the second is in a later group, which finds it trained.
    """
    settings: dict[str, list[Task]] = {}
    for line in lines:
        config = line.resolved.config
        key = config.training.model_dump_json()
        settings.setdefault(key, []).extend(tasks_of(config, line.resolved.entries))
    for tasks in settings.values():
        rounds: list[dict[str, Task]] = []
        for task in tasks:
            place = next((r for r in rounds if task.training_id not in r), None)
            if place is None:
                rounds.append(place := {})
            place[task.training_id] = task
        yield from (list(r.values()) for r in rounds)


@dataclass(frozen=True)
class LinePlan:
    """What one line costs.

    Attributes:
        line: the line.
        cell: the plan of one of its seeds.
        seconds: of all its seeds; a training that an earlier line did counts there alone.
    """

    line: Line
    cell: CellPlan
    seconds: float


def plan_lines(lines: Sequence[Line], *, download: bool) -> tuple[list[LinePlan], list[str]]:
    """Count and time every line; nothing is trained.

    Args:
        lines: the table's; those with one network and batch size share the timed steps.
        download: whether a data set may be fetched.

    Returns:
        A plan a line, and the notes of the plans.
    """
    trained: set[str] = set()
    times: dict[str, Times] = {}
    plans = []
    notes: dict[str, None] = {}
    for line in lines:
        config, entries = line.resolved.config, line.resolved.entries
        # N and the augmentation change neither a member's step nor a forward pass by much.
        key = config.training.model_copy(
            update={"population": 2, "augment": "homogeneous", "init": "shared"}
        ).model_dump_json()
        one = config.model_copy(update={"seeds": config.seeds[:1]})
        plan = plan_experiment(one, entries, download=download, times=times.get(key))
        if plan.times:
            times[key] = plan.times
        (cell,) = plan.cells
        new = {task.training_id for task in tasks_of(config, entries)} - trained
        trained |= new
        plans.append(LinePlan(line, cell, len(new) * cell.seconds))
        notes |= dict.fromkeys(plan.notes)
    return plans, list(notes)
