"""Working off an experiment beside other workers that share the run folder."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from wash_bench.distributed.world import LocalWorld
from wash_bench.record.claims import Claim, ClaimedStore, ClaimLost, Claims
from wash_bench.runner.jobs import Work, checked
from wash_bench.runner.progress import Observer, Progress
from wash_bench.runner.setting import Setting
from wash_bench.runner.task import Results, Task, perform


def work_off(
    tasks: Sequence[Task],
    open_part: Callable[[Task], Task | None],
    work: Work,
    claims: Claims,
    observer: Observer,
) -> Iterator[Results]:
    """Carry out, one after another, the tasks that nobody else works on, until none is left.

    Args:
        tasks: all of them.
        open_part: a task reduced to the cells without a record, None if there are none.
        work: how tasks are carried out.
        claims: this worker's.
        observer: is told the progress.
    """
    work.set_up_torch()
    setting: Setting | None = None
    tried: set[str] = set()
    for task in tasks:
        if open_part(task):
            observer(task.progress("waiting", epochs=task.config.training.epochs))
    while found := _next([t for t in tasks if t.training_id not in tried], open_part, claims):
        task, claim = found
        tried.add(task.training_id)
        try:
            setting = setting or checked(task, work)
            yield perform(
                task,
                ClaimedStore(work.store.root, claim),
                setting,
                LocalWorld(),
                _guarded(observer, claim),
                debug=work.debug,
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
    tasks: Sequence[Task], open_part: Callable[[Task], Task | None], claims: Claims
) -> tuple[Task, Claim] | None:
    for task in tasks:
        if open_part(task) is None:
            continue
        claim = claims.take(task.training_id)
        if claim is None:
            continue
        if left := open_part(task):  # its last owner may just have finished it
            return left, claim
        claims.release(claim)
    return None


def _guarded(observer: Observer, claim: Claim) -> Observer:
    def observe(progress: Progress) -> None:
        claim.check()
        observer(progress)

    return observe
