"""All checks of a method, in the order in which they are shown."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import torch

from wash_bench.conformance import checks, models
from wash_bench.conformance.case import Case, CheckResult, Failed, cases_of, crash
from wash_bench.conformance.processes import Answer, in_two_processes, two_processes

if TYPE_CHECKING:
    from wash_bench.plugins.registry import MethodEntry

Check = Callable[[Case], str]

CHECKS: dict[str, Check] = {
    "options": checks.check_options,
    "hooks": checks.check_hooks,
    "training key": checks.check_training_key,
    "population sizes": checks.check_sizes,
    "equal members": checks.check_equal_members,
    "buffers": checks.check_buffers,
    "bytes": checks.check_comm,
    "seeds": checks.check_seeding,
    "global generators": checks.check_global_generators,
    "resume": models.check_resume,
    "predictors": models.check_predictors,
}
AROUND: dict[str, Check] = {"passes on": checks.check_wrapper}  # of wrappers
PROCESSES = "two processes"


def check(
    entry: MethodEntry, options: Mapping[str, Any] | None = None, *, processes: bool = True
) -> Iterator[CheckResult]:
    """Yield each check's result, of a wrapper also around a rule that sends and remembers."""
    cases = cases_of(entry, options)
    for name in CHECKS:
        yield _run(name, cases, [CHECKS[name]] * len(cases))
    for name in AROUND if len(cases) > 1 else ():
        yield _run(name, cases[1:], [AROUND[name]])
    if processes:
        answers = in_two_processes(cases)
        yield _run(PROCESSES, cases, [partial(two_processes, answer=a) for a in answers])


def run_check(name: str, case: Case, answer: Answer | None = None) -> CheckResult:
    """Run one check by its name on one case; ``in_two_processes`` may have given the answer."""
    all_checks = {**CHECKS, **AROUND, PROCESSES: partial(two_processes, answer=answer)}
    return _run(name, [case], [all_checks[name]])


def _run(name: str, cases: Sequence[Case], functions: Sequence[Check]) -> CheckResult:
    threads, text = torch.get_num_threads(), ""
    torch.set_num_threads(1)  # the tensors are small
    try:
        for case, function in zip(cases, functions, strict=True):
            where = f"around {case.name.partition('+')[0]}: " if case.around else ""
            try:
                said = function(case)
            except Failed as failure:
                return CheckResult(name, False, where + failure.reason, failure.fix)
            except (Exception, SystemExit) as error:
                fix = "the method's own code raises it; see the line"
                return CheckResult(name, False, where + crash(error), fix)
            text = text or said
        return CheckResult(name, True, text)
    finally:
        torch.set_num_threads(threads)
