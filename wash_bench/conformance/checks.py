"""The checks of options, hooks, rows, bytes, random draws and, of wrappers, delegation."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import lru_cache
from typing import Any
from unittest import mock

import numpy as np
import torch
from pydantic import ValidationError
from torch import Tensor

from wash_bench.conformance.bench import (
    ADAM,
    LENGTH,
    PLAN,
    SGD,
    ReferenceRule,
    Trained,
    clones,
    first_difference,
    population_of,
    train,
)
from wash_bench.conformance.case import Case, Failed, require
from wash_bench.core import exchange
from wash_bench.core.ledger import CommLedger, CommTotals
from wash_bench.core.method import CommShape, Method, predict_comm
from wash_bench.core.population import Population
from wash_bench.core.step_info import StepInfo
from wash_bench.core.wrapper import Independent, MergeRule, Wrapper, training_hooks
from wash_bench.data.recipe import Recipe
from wash_bench.errors import WashBenchError
from wash_bench.seeds import numpy_stream

N = 5
STREAM = "exchange.stream"
FIX_COMM = (
    "make charges give, for every exchange of start and after_step, the charge_... of its kind"
)
FIX_DRAWN = "make charges give the expected number, and its variance (see methods/wash.py)"
FIX_SEED = "draw from exchange.stream('purpose', clock.step): a generator from the run's seed"


def check_options(case: Case) -> str:
    """Defaults are values that the options allow, and settings are JSON data."""
    method = case.make()
    for part in _parts(method):
        try:
            part.Options(**part.Options().model_dump())
        except ValidationError as error:
            problem = error.errors()[0]
            name = ".".join(map(str, problem["loc"])) or part.Options.__name__
            reason = f"default of {name}: {problem['msg']}"
            raise Failed(reason, "change the default or its limits") from None
    for what in ("settings", "training_key"):
        try:
            json.dumps(getattr(method, what)())
        except (TypeError, ValueError) as error:
            reason = f"{what}() is no JSON data: {error}"
            raise Failed(reason, "use numbers, texts, lists") from None
    before = method.settings()
    train(method, 2)
    require(
        method.settings() == before,
        "a training changes the options",
        "keep what changes outside of options",
    )
    return f"{len(type(method).Options.model_fields)} options, defaults allowed"


def _parts(method: Method) -> list[Method]:
    return [method, *_parts(method.inner)] if isinstance(method, Wrapper) else [method]


def check_training_key(case: Case) -> str:
    """Methods with equal keys share one training, so what trains differently needs its own key."""
    method, plain = case.make(), Independent()
    if isinstance(method, MergeRule):
        hooks = training_hooks(type(method))
        require(
            not hooks or method.training_key() != method.inner.training_key(),
            f"a merge rule that defines {', '.join(hooks)} shares the training of others",
            "derive from Wrapper instead of MergeRule",
        )
    if method.training_key() != plain.training_key():
        return "a training of its own" if method.training_key() else "no key"
    name = first_difference(*(train(one, 3).tensors() for one in (method, plain)))
    require(
        not name,
        f"training_key is that of independent members, but {name} comes out differently",
        "override training_key, or derive from Method and not from NaiveEnsemble",
    )
    return "shares the training of independent members"


def check_hooks(case: Case) -> str:
    """``active``, ``recipe`` and ``order`` give what the loop expects, at any moment."""
    method, base = case.make(), Recipe()
    for clock in PLAN.clocks():
        active = method.active(N, clock)
        require(
            isinstance(active, int) and 1 <= active <= N,
            f"active(5, clock) is {active}",
            "give a number of members from 1 to n",
        )
        for member in range(N):
            recipe, leader = method.recipe(member, base, clock), method.order(member, clock)
            require(
                isinstance(recipe, Recipe),
                f"recipe gives {recipe!r}",
                "return base or base.but(...)",
            )
            require(
                leader in range(N),
                f"order({member}, clock) is {leader}",
                "return a member, 0 to n-1",
            )
            require(
                recipe == method.recipe(member, base, clock),
                "recipe changes when asked again",
                "let it follow from the clock",
            )
    require(
        method.active(N, PLAN.clock(PLAN.steps - 1)) == N,
        "some members never train",
        "let active give n by the last epoch",
    )
    return "active, recipe and order fit"


def check_sizes(case: Case) -> str:
    """It runs with 1, 2 and 5 members, keeps the rows in their place and every number finite."""
    for n in (1, 2, 5):
        population = population_of(n)
        places = _places(population)

        def look(run: Trained, clock: StepInfo, places: list[int] = places) -> None:
            require(
                _places(run.population) == places,
                f"after step {clock.step} the rows are other tensors than before",
                "write into them: population.weights[:] = ..., lerp_, copy_",
            )

        run = train(case.make(), population, after=look)
        for name, rows in run.tensors().items():
            require(
                rows.isfinite().all(),
                f"{name} of {n} members is not finite",
                "check divisions and roots",
            )
        require(
            n > 1 or not run.exchange.ledger.wire_bytes,
            "a single member sends bytes",
            "leave nothing to send for exchange.n < 2",
        )
    return "N = 1, 2 and 5 run; rows stay in place and finite"


def _places(population: Population) -> list[int]:
    rows = [population.weights, population.buffers, population.counters]
    rows += population.optimizer_state.values()
    rows += [next(module.parameters()) for module in population.modules]
    return [tensor.data_ptr() for tensor in rows]


def check_buffers(case: Case) -> str:
    """BatchNorm statistics stay possible; integer buffers stay integers, equal in all members."""
    leave = "leave integer buffers as they are"
    run = train(case.make(), N)
    counters = run.population.counters
    require(counters.dtype == torch.int64, f"counters are {counters.dtype}", leave)
    require(
        torch.equal(counters, counters[:1].expand_as(counters)),
        f"num_batches_tracked ends as {counters[:, 0].tolist()} in the members",
        "copy counters with weights and buffers when a member starts late, else leave them",
    )
    require(int(counters.min()) >= 0, "num_batches_tracked is negative", leave)
    measured = run.method.evaluated(run.population)
    for what, population in (("the members", run.population), ("the measured", measured)):
        rows = population.buffers
        require(
            rows.isfinite().all(),
            f"BatchNorm statistics of {what} are not finite",
            "check divisions",
        )
        for piece in population.layout.buffers:
            require(
                not piece.name.endswith("running_var")
                or (rows[:, piece.offset : piece.stop] > 0).all(),
                f"{piece.name} of {what} is not positive",
                "average BatchNorm statistics, but do not extrapolate or shift them",
            )
    return "counters equal and integer, running variances positive"


def check_equal_members(case: Case) -> str:
    """Equal members that take equal steps stay equal."""
    run = train(case.make(), population_of(N, alike=True), alike=True)
    for name in ("weights", "buffers"):
        rows = getattr(run.population, name)
        require(
            torch.allclose(rows, rows[:1].expand_as(rows), rtol=1e-4, atol=1e-5),
            f"members that start and step alike end with different {name}",
            "let what a member becomes depend on the members' values, not on its number",
        )
    return "equal members stay equal"


def check_comm(case: Case) -> str:
    """The ledger has what ``charges`` predicts: exactly, or within 5 deviations where drawn."""
    sent, predicted = 0.0, True
    for n, slots in ((2, SGD), (5, ADAM), (3, ())):
        try:
            run = train(case.make(), population_of(n, slots))
        except WashBenchError:
            if slots == SGD:
                raise
            continue  # a method may be made for one optimizer
        sent = max(sent, run.exchange.ledger.wire_bytes)
        expected = predict_comm(case.make(), CommShape(run.population.layout, n, len(slots)), PLAN)
        if expected is None:
            predicted = False
        else:
            _compare(run.exchange.ledger, expected, n)
    kilobytes = f"up to {sent / 1000:,.1f} kB a member in {LENGTH}"
    if not predicted:
        return (
            "not predicted: without charges the ledger alone counts what is sent, here "
            f"{kilobytes}; plan and comm tell nothing"
        )
    if not sent:
        return f"nothing is sent in {LENGTH} (--set makes a method act more often)"
    return f"charges tell what is sent, {kilobytes}"


def _compare(sent: CommLedger, expected: CommLedger, n: int) -> None:
    drawn = any(tally.variance for tally in expected.tallies.values())
    for key in sorted({*sent.tallies, *expected.tallies}):
        name = f"{key[0]} of {key[1]} with {n} members"
        one, two = (ledger.tallies.get(key, CommTotals()) for ledger in (sent, expected))
        if two.variance or (drawn and key[1] == "buffers"):
            _compare_drawn(name, one, two, n)
            continue
        require(
            one.events == two.events
            and math.isclose(one.values, two.values)
            and math.isclose(one.wire_bytes, two.wire_bytes),
            f"{name}: sent {one.wire_bytes:,.0f} bytes in {one.events} exchanges, "
            f"charges say {two.wire_bytes:,.0f} in {two.events}",
            FIX_COMM,
        )
    apart = abs(sent.sent_values - expected.sent_values)
    if drawn:
        near = apart <= 5 * expected.sent_values_std
        _require_near(near, "all exchanges", sent.sent_values, expected.sent_values)


def _compare_drawn(name: str, sent: CommTotals, expected: CommTotals, n: int) -> None:
    """Compare drawn amounts: values within 5 deviations, and as many bytes per value."""
    if expected.variance:
        near = abs(sent.values - expected.values) <= 5 * expected.variance**0.5
        _require_near(near, name, sent.values, expected.values)
        per_value = expected.wire_bytes / max(expected.values, 1e-9)
        near = not sent.values or math.isclose(
            sent.wire_bytes / sent.values, per_value, rel_tol=1e-6
        )
    else:  # buffers count no values; a drawn coordinate moves at most n of them together
        most = 5 * 4 * (n * expected.wire_bytes / 4) ** 0.5
        near = abs(sent.wire_bytes - expected.wire_bytes) <= most
    _require_near(near, f"{name}, bytes", sent.wire_bytes, expected.wire_bytes)


def _require_near(near: object, name: str, sent: float, expected: float) -> None:
    reason = f"{name}: sent {sent:,.0f}, charges expect {expected:,.1f}"
    require(near, f"{reason}, more than 5 deviations away", FIX_DRAWN)


def check_seeding(case: Case) -> str:
    """The same seed gives the same bits; another seed others, where a method draws by itself."""
    expected, population = _trained(case), population_of(N)
    with _generators_made() as made:
        again = train(case.make(), population).tensors()
    name = first_difference(expected, again)
    require(not name, f"the same seed twice: {name} comes out differently", FIX_SEED)
    if first_difference(expected, train(case.make(), N, seed=1).tensors()):
        return "the same seed gives the same bits, another seed others"
    own = [name for name in made if name != STREAM]
    require(not own, f"it makes a {own and own[0]}, but another seed gives the same bits", FIX_SEED)
    effect = "what is drawn has no effect here" if made else "nothing is drawn"
    return f"the same seed gives the same bits; {effect}"


def check_global_generators(case: Case) -> str:
    """The global generators of torch, numpy and Python do not matter."""
    name = first_difference(_trained(case), train(case.make(), N, noise=1000).tensors())
    require(not name, f"{name} depends on the global random generators", FIX_SEED)
    return "global random generators are not used"


@lru_cache(maxsize=1)
def _trained(case: Case) -> dict[str, Tensor]:
    """Return what a training of this case ends with; two checks compare with it."""
    return clones(train(case.make(), N).tensors())


@contextmanager
def _generators_made() -> Iterator[list[str]]:
    """Yield the names of the generators that are made meanwhile, the exchange's as STREAM."""
    made: list[str] = []

    def noting(name: str, maker: Callable[..., Any]) -> Callable[..., Any]:
        def make(*arguments: Any, **named: Any) -> Any:
            made.append(name)
            return maker(*arguments, **named)

        return make

    def stream(*arguments: Any) -> np.random.Generator:
        before = len(made)
        generator = numpy_stream(*arguments)
        made[before:] = [STREAM]
        return generator

    class Generator(torch.Generator):
        def __new__(cls, *arguments: Any, **named: Any) -> Generator:
            made.append("torch.Generator")
            return super().__new__(cls, *arguments, **named)

    with ExitStack() as patches:
        patches.enter_context(mock.patch.object(exchange, "numpy_stream", stream))
        patches.enter_context(mock.patch.object(torch, "Generator", Generator))
        for name in ("default_rng", "Philox", "PCG64"):
            noted = noting(f"numpy.random.{name}", getattr(np.random, name))
            patches.enter_context(mock.patch.object(np.random, name, noted))
        yield made


def check_wrapper(case: Case) -> str:
    """The method inside is started, called after each step, and its memory is kept."""
    method = case.make()
    if not isinstance(method, Wrapper) or not isinstance(method.inner, ReferenceRule):
        return "not exercised: it goes around nothing that remembers"
    run, inner, call = train(method, 3), method.inner, "call super().{0}(...) once in {0}"
    require(
        inner.starts == 1,
        f"start of the method inside is called {inner.starts} times",
        call.format("start"),
    )
    require(
        inner.steps == list(range(PLAN.steps)),
        f"after_step of the method inside is called after {len(inner.steps)} of {PLAN.steps} steps",
        call.format("after_step"),
    )
    lost = inner.state_dict().keys() - run.method.state_dict().keys()
    lost |= inner.member_slots().keys() - run.method.member_slots().keys()
    require(
        not lost,
        f"memory of the method inside is lost: {', '.join(sorted(lost))}",
        "return {**super().state_dict(), ...} and {**super().member_slots(), ...}",
    )
    return "the method inside is called and remembered"
