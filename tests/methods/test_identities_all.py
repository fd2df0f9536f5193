"""What holds for every method that is installed: fixed points, and plain training at the ends.

Methods that are installed later are covered by the tests over ``METHODS`` without being named here;
who breaks a rule for a reason is listed with that reason, and has to break it.
"""

from __future__ import annotations

import pytest
import torch

from tests.support.busy import BUSY, SILENT
from tests.support.identities import common_start, make, same, same_bits, train
from tests.support.populations import PLAN, small_population, tensors
from wash_bench.core.exchange import LocalExchange
from wash_bench.core.method import Method
from wash_bench.core.population import Population
from wash_bench.methods.diloco import Diloco
from wash_bench.methods.local_sgd import LocalSgd
from wash_bench.methods.papa import Papa
from wash_bench.methods.papa_2 import Papa2
from wash_bench.methods.papa_all import PapaAll
from wash_bench.methods.post_local_sgd import PostLocalSgd
from wash_bench.methods.sparta import Sparta
from wash_bench.methods.sparta_diloco import SpartaDiloco
from wash_bench.methods.wash import Wash
from wash_bench.plugins.registry import find_method, make_method, method_names

OWN = [LocalSgd, PostLocalSgd, PapaAll, Papa2, Diloco, Sparta, SpartaDiloco]
# Methods that change members which are and move alike, and hence a single one.
INERTIA = {
    "diloco": "the outer optimizer extrapolates the common path and has momentum",
    "sparta-diloco": "as in DiLoCo",
    "noloco": "as in DiLoCo",
    "streaming-diloco": "as in DiLoCo",
    "palsgd": "as in DiLoCo, and members are drawn back to the global weights",
    "w-asym": "some weights are set, and set back after every step",
    "gpa": "gradients are taken at a point between the iterate and its average",
    "lookahead": "every member is set back towards its own slow weights",
    "schedule-free": "gradients are taken at a point between the iterate and its average",
}
# Methods that change equal members, but never a single one.
TIES = {"easgd": "the centre is a point of its own, and lags behind"}
PRUNES = {
    "sparse-soup": "weights are set to zero, whether members are equal or not",
    "w-asym": "weights are set to values of their own",
}


def installed() -> dict[str, Method]:
    methods = {kind.name: kind for kind in OWN}
    made = {name: kind(kind.Options(**BUSY[name])) for name, kind in methods.items()}
    for name in method_names():
        made[name] = make_method(find_method(name), BUSY.get(name, {}))
    return made


METHODS = installed()
everyone = pytest.mark.parametrize("name", sorted(METHODS))


def equal_members(n: int) -> Population:
    population = small_population(n)
    for rows in tensors(population).values():
        rows.copy_(rows[:1].clone().expand_as(rows))
    return population


class Plain(Method):
    """Training without any coupling, stated once more."""

    def after_step(self, population, exchange, clock) -> None:
        pass

    def charges(self, site, clock):
        return ()

    def predictors(self, population, judge):
        return {}


@everyone
def test_equal_members_at_rest_stay_as_they_are(name: str):
    """Outer momentum and slow weights have nothing to go on either."""
    population, exchange, method = equal_members(3), LocalExchange(3, 0), METHODS[name]
    population.remember(method.member_slots())
    method.start(population, exchange)
    for clock in PLAN.clocks():
        method.after_step(population, exchange, clock)
    rest = equal_members(3)
    if name == "schedule-free":  # it has no momentum, and empties the optimizer's
        rest.optimizer_state["momentum"].zero_()
    stays = same(population, rest, rtol=1e-6, atol=1e-6)
    assert stays == (name not in PRUNES), PRUNES.get(name)


@pytest.mark.slow
@everyone
def test_equal_members_that_move_alike_are_plain_training(name: str):
    trained = train(METHODS[name], 3, alike=True, population=equal_members(3))
    plain = train(Plain(), 3, alike=True, population=equal_members(3))
    for rows in tensors(trained).values():
        torch.testing.assert_close(rows, rows[:1].expand_as(rows), rtol=1e-5, atol=1e-5)
    reasons = INERTIA | TIES | PRUNES
    assert same(trained, plain) == (name not in reasons), reasons.get(name)


@everyone
def test_a_single_member_is_plain_training(name: str):
    trained, plain = train(METHODS[name], 1), train(Plain(), 1)
    if name in INERTIA:
        assert not same(trained, plain), INERTIA[name]
    else:
        assert same_bits(trained, plain)


@pytest.mark.slow
@everyone
def test_busy_rules_do_something_to_members_that_differ(name: str):
    """Or the tests above would hold of a rule that never acts."""
    differs = not same(train(METHODS[name], 4), train(Plain(), 4))
    assert differs or name not in BUSY.keys() - SILENT


@pytest.mark.parametrize(
    "method",
    [
        make(Wash, p=0.0),
        make(Papa, alpha=1.0),
        make(Sparta, p=0.0),
        make(Sparta, p=0.0, selector="partitioned"),
        make(LocalSgd, every=PLAN.steps),
        make(PostLocalSgd, switch=0.0, every=PLAN.steps),
    ],
)
def test_without_coupling_training_is_plain_to_the_bit(method: Method):
    assert same_bits(train(method, 3), train(Plain(), 3))


def test_outer_steps_that_never_come_leave_training_plain():
    for method in (make(Diloco, every=PLAN.steps), make(SpartaDiloco, every=PLAN.steps, p=0.0)):
        assert same_bits(train(method, 3), train(Plain(), 3, population=common_start(3)))
