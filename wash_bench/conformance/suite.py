"""All checks of a method, in the order in which they are told."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import torch

from wash_bench.conformance import described, rows, seeded
from wash_bench.conformance.charged import charged
from wash_bench.conformance.finding import Failed, Finding, crash
from wash_bench.conformance.merging import merging
from wash_bench.conformance.processes import Answer, in_two_processes, two_processes
from wash_bench.conformance.resume import resume
from wash_bench.conformance.subject import Subject, subjects_of
from wash_bench.conformance.wrapping import passes_on

if TYPE_CHECKING:
    from wash_bench.plugins.registry import MethodEntry

Check = Callable[[Subject], str]

CHECKS: dict[str, Check] = {
    "options": described.options,
    "hooks": described.hooks,
    "training key": described.training_key,
    "population sizes": rows.sizes,
    "equal members": rows.equal_members,
    "buffers": rows.buffers,
    "bytes": charged,
    "seeds": seeded.seeded,
    "global generators": seeded.global_state,
    "resume": resume,
    "predictors": merging,
}
AROUND: dict[str, Check] = {"passes on": passes_on}  # of wrappers
PROCESSES = "two processes"


def check(
    entry: MethodEntry, options: Mapping[str, Any] | None = None, *, processes: bool = True
) -> Iterator[Finding]:
    """Each check on a method, wrappers also around one that sends and remembers: its finding."""
    subjects = subjects_of(entry, options)
    for name in CHECKS:
        yield _both(name, subjects, [CHECKS[name]] * len(subjects))
    for name in AROUND if len(subjects) > 1 else ():
        yield _both(name, subjects[1:], [AROUND[name]])
    if processes:
        answers = in_two_processes(subjects)
        yield _both(PROCESSES, subjects, [partial(two_processes, answer=a) for a in answers])


def run_check(name: str, subject: Subject, answer: Answer | None = None) -> Finding:
    """One check by its name on one subject; ``in_two_processes`` may have given the answer."""
    all_checks = {**CHECKS, **AROUND, PROCESSES: partial(two_processes, answer=answer)}
    return _both(name, [subject], [all_checks[name]])


def _both(name: str, subjects: Sequence[Subject], checks: Sequence[Check]) -> Finding:
    threads, text = torch.get_num_threads(), ""
    torch.set_num_threads(1)  # the tensors are small
    try:
        for subject, run in zip(subjects, checks, strict=True):
            where = f"around {subject.name.partition('+')[0]}: " if subject.around else ""
            try:
                said = run(subject)
            except Failed as failure:
                return Finding(name, False, where + failure.reason, failure.fix)
            except Exception as error:
                fix = "the method's own code raises it; see the line"
                return Finding(name, False, where + crash(error), fix)
            text = text or said
        return Finding(name, True, text)
    finally:
        torch.set_num_threads(threads)
