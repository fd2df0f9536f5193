"""A worker: works tasks off beside others, on any hosts, that share the run folder by claims."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from wash_bench.record.claims import Claim, ClaimedStore, ClaimLost, Claims
from wash_bench.record.store import Store
from wash_bench.runner.context import RunContext
from wash_bench.runner.progress import Observer, Progress
from wash_bench.runner.queue import Outcome, open_part
from wash_bench.runner.task import Results, TrainingTask

if TYPE_CHECKING:
    from wash_bench.runner.setting import Setting


def share_out(
    tasks: Sequence[TrainingTask],
    context: RunContext,
    claims: Claims,
    retry_before: float,
    outcome: Outcome,
) -> None:
    """Carry out what no other worker has; failures of before ``retry_before`` are tried again."""
    store = Store(context.out)
    for results in _work_off(tasks, context, claims, retry_before):
        outcome.add(results)
    done = {*outcome.finished, *(cell_id for cell_id, _ in outcome.failed)}
    for task in tasks:
        others = task.part({cell.cell_id for cell in task.cells} - done)
        left = others and open_part(others, store, 0.0, outcome, context.observer)
        if left:
            who = claims.holder(task.training_id) or "nobody any more"
            outcome.elsewhere += [(cell.cell_id, who) for cell in left.cells]


def _work_off(
    tasks: Sequence[TrainingTask], context: RunContext, claims: Claims, retry_before: float
) -> Iterator[Results]:
    """Carry out, one after another, the tasks that nobody else works on, until none is left."""
    observer, store = context.observer, Store(context.out)
    left = {task.training_id: task for task in tasks}
    waiting = [task for task in tasks if open_part(task, store, retry_before)]
    for task in waiting:
        observer(task.progress("waiting", epochs=task.training.epochs))
    if not waiting:
        return
    from wash_bench.runner.perform import perform
    from wash_bench.runner.pool import checked

    context.set_up_torch()
    setting: Setting | None = None
    while found := _next(list(left.values()), store, claims, retry_before):
        task, claim = found
        del left[task.training_id]
        try:
            setting = setting or checked(tasks, context)
            yield perform(
                task,
                setting,
                ClaimedStore(store.root, claim),
                context.but(observer=_guarded(observer, claim)),
            )
        except Exception as error:
            # Shut out of the folder, a worker that stood still may fail in any way.
            if claim.held():
                raise
            reason = str(error) if isinstance(error, ClaimLost) else "another worker took it over"
            observer(task.progress("waiting", message=reason))
        finally:
            claims.release(claim)


def _next(
    tasks: Sequence[TrainingTask], store: Store, claims: Claims, retry_before: float
) -> tuple[TrainingTask, Claim] | None:
    for task in tasks:
        if open_part(task, store, retry_before) is None:
            continue
        claim = claims.take(task.training_id)
        if claim is None:
            continue
        if left := open_part(task, store, retry_before):  # its last owner may have just finished it
            return left, claim
        claims.release(claim)
    return None


def _guarded(observer: Observer, claim: Claim) -> Observer:
    def observe(progress: Progress) -> None:
        claim.check()
        observer(progress)

    return observe
