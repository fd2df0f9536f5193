"""Options, names of trainings, and the hooks that the loop asks."""

import json

from pydantic import ValidationError

from wash_bench.conformance.bench import PLAN, first_difference, train
from wash_bench.conformance.finding import Failed
from wash_bench.conformance.subject import Subject
from wash_bench.core.independent import Independent
from wash_bench.core.method import Method
from wash_bench.core.wrapper import MergeRule, Wrapper, training_hooks
from wash_bench.data.recipe import Recipe


def options(subject: Subject) -> str:
    """Defaults are values that the options allow, and settings are JSON data."""
    method = subject.make()
    for part in _parts(method):
        defaults = part.Options().model_dump()
        try:
            part.Options(**defaults)
        except ValidationError as error:
            problem = error.errors()[0]
            name = ".".join(map(str, problem["loc"])) or part.Options.__name__
            raise Failed(
                f"default of {name}: {problem['msg']}", "change the default or its limits"
            ) from None
    for what, data in (
        ("settings()", method.settings()),
        ("training_key()", method.training_key()),
    ):
        try:
            json.dumps(data)
        except (TypeError, ValueError) as error:
            raise Failed(f"{what} is no JSON data: {error}", "use numbers, texts, lists") from None
    before = method.settings()
    train(method, 2)
    if method.settings() != before:
        raise Failed("a training changes the options", "keep what changes outside of options")
    return f"{len(type(method).Options.model_fields)} options, defaults allowed"


def _parts(method: Method) -> list[Method]:
    return [method, *_parts(method.inner)] if isinstance(method, Wrapper) else [method]


def training_key(subject: Subject) -> str:
    """Methods with equal keys share one training, so what trains differently needs its own key."""
    method = subject.make()
    if isinstance(method, MergeRule):
        hooks = training_hooks(type(method))
        if hooks and method.training_key() == method.inner.training_key():
            raise Failed(
                f"a merge rule that defines {', '.join(hooks)} shares the training of others",
                "derive from Wrapper instead of MergeRule",
            )
    plain = Independent()
    if method.training_key() != plain.training_key():
        return "a training of its own" if method.training_key() else "no key"
    rows = [train(one, 3).tensors() for one in (method, plain)]
    if name := first_difference(*rows):
        raise Failed(
            f"training_key is that of independent members, but {name} comes out differently",
            "override training_key, or derive from Method and not from NaiveEnsemble",
        )
    return "shares the training of independent members"


def hooks(subject: Subject) -> str:
    """``active``, ``recipe`` and ``order`` give what the loop expects, at any moment."""
    method, n, base = subject.make(), 5, Recipe()
    for clock in PLAN.clocks():
        active = method.active(n, clock)
        if not isinstance(active, int) or not 1 <= active <= n:
            raise Failed(f"active(5, clock) is {active}", "give a number of members from 1 to n")
        for member in range(n):
            recipe, leader = method.recipe(member, base, clock), method.order(member, clock)
            if not isinstance(recipe, Recipe):
                raise Failed(f"recipe gives {recipe!r}", "return base or base.but(...)")
            if leader not in range(n):
                raise Failed(f"order({member}, clock) is {leader}", "return a member, 0 to n-1")
            if recipe != method.recipe(member, base, clock):
                raise Failed("recipe changes when asked again", "let it follow from the clock")
    if method.active(n, PLAN.clock(PLAN.steps - 1)) < n:
        raise Failed("some members never train", "let active give n by the last epoch")
    return "active, recipe and order fit"
