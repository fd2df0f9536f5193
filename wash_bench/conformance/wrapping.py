"""A wrapper passes on what is the business of the method inside."""

from wash_bench.conformance.bench import PLAN, train
from wash_bench.conformance.finding import Failed
from wash_bench.conformance.subject import Subject
from wash_bench.conformance.witness import Witness
from wash_bench.core.wrapper import Wrapper


def passes_on(subject: Subject) -> str:
    """The method inside is started, called after each step, and its memory is kept."""
    method = subject.make()
    if not isinstance(method, Wrapper) or not isinstance(method.inner, Witness):
        return "not exercised: it goes around nothing that remembers"
    run, inner = train(method, 3), method.inner
    if inner.starts != 1:
        raise Failed(f"start of the method inside is called {inner.starts} times", _call("start"))
    if inner.steps != list(range(PLAN.steps)):
        raise Failed(
            f"after_step of the method inside is called after {len(inner.steps)} of {PLAN.steps} "
            "steps",
            _call("after_step"),
        )
    lost = inner.state_dict().keys() - run.method.state_dict().keys()
    lost |= inner.member_slots().keys() - run.method.member_slots().keys()
    if lost:
        raise Failed(
            f"memory of the method inside is lost: {', '.join(sorted(lost))}",
            "return {**super().state_dict(), ...} and {**super().member_slots(), ...}",
        )
    return "the method inside is called and remembered"


def _call(hook: str) -> str:
    return f"call super().{hook}(...) once in {hook}"
