"""Identities between the methods, and what holds for every one that is installed.

The rules differ in which coordinates they touch, when, and by what operator; at the ends of their
options they become each other, or plain training. Methods that are installed later are covered by
the tests over ``METHODS`` without being named here; who breaks a rule for a reason is listed with
that reason, and has to break it.
"""

from __future__ import annotations

import pytest
import torch

from tests.busy import BUSY, SILENT
from tests.populations import PLAN, small_population, tensors
from wash_bench.core.clock import Clock
from wash_bench.core.exchange import LocalExchange
from wash_bench.core.method import Method
from wash_bench.core.population import Population
from wash_bench.core.together import start_equal
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
    "lookahead": "every member is set back towards its own slow weights",
    "schedule-free": "gradients are taken at a point between the iterate and its average",
}
# Methods that change equal members, but never a single one.
TIES = {"easgd": "the centre is a point of its own, and lags behind"}
PRUNES = {"sparse-soup": "weights are set to zero, whether members are equal or not"}


def installed() -> dict[str, Method]:
    methods = {kind.name: kind for kind in OWN}
    made = {name: kind(kind.Options(**BUSY[name])) for name, kind in methods.items()}
    for name in method_names():
        made[name] = make_method(find_method(name), BUSY.get(name, {}))
    return made


METHODS = installed()
everyone = pytest.mark.parametrize("name", sorted(METHODS))


def train(
    method: Method, n: int, alike: bool = False, population: Population | None = None
) -> Population:
    """A training in which random displacements stand for the optimizer's steps.

    Args:
        method: the rule.
        n: number of members.
        alike: whether all members take the same steps.
        population: where to start; members that all differ if not given.
    """
    population = small_population(n) if population is None else population
    population.remember(method.member_slots())
    exchange = LocalExchange(n, 0)
    method.start(population, exchange)
    for clock in PLAN.clocks():
        for member in range(method.active(n, clock)):
            move(population, member, clock, 0 if alike else member)
        method.after_step(population, exchange, clock)
    return population


def move(population: Population, member: int, clock: Clock, seed: int) -> None:
    generator = torch.Generator().manual_seed(1000 * clock.step + seed)
    for rows in (population.weights, population.buffers, *population.optimizer_state.values()):
        rows[member] += 0.1 * torch.randn(rows.shape[1], generator=generator)
    population.counters[member] += 1
    population.optimizer_steps[member] += 1


def equal_members(n: int) -> Population:
    population = small_population(n)
    for rows in tensors(population).values():
        rows.copy_(rows[:1].clone().expand_as(rows))
    return population


def common_start(n: int) -> Population:
    """Members as those rules begin that let all start as member 0."""
    population = small_population(n)
    start_equal(population, LocalExchange(n, 0))
    return population


class Plain(Method):
    """Training without any coupling, stated once more."""

    def after_step(self, population, exchange, clock) -> None:
        pass

    def charges(self, site, clock):
        return ()

    def predictors(self, population, judge):
        return {}


def same(one: Population, two: Population, **tolerance: float) -> bool:
    tolerance = {"rtol": 1e-5, "atol": 1e-5} | tolerance
    others = tensors(two)
    return all(
        torch.allclose(rows, others[name], **tolerance) for name, rows in tensors(one).items()
    )


def same_bits(one: Population, two: Population) -> bool:
    return same(one, two, rtol=0.0, atol=0.0)


# The methods that are each other -----------------------------------------------------------------


def make(kind: type[Method], **options: object) -> Method:
    return kind(kind.Options(**options))


def mean_each_step() -> Population:
    """The members after every step but the last their mean, in plain float64 loops."""
    population = small_population(3)
    for clock in PLAN.clocks():
        for member in range(3):
            move(population, member, clock, member)
        if clock.step < PLAN.steps - 1:
            for rows in (population.weights, population.buffers):
                rows[:] = sum(row.double() for row in rows) / 3
    return population


@pytest.mark.parametrize(
    "method",
    [
        make(LocalSgd, every=1),
        make(PostLocalSgd, switch=1.0, every=9),
        make(PostLocalSgd, switch=0.0, every=1),
        make(Sparta, p=1.0, buffers=True),
        make(Sparta, p=1.0, buffers=True, selector="partitioned"),
    ],
)
def test_averaging_everything_at_every_step_is_one_rule(method: Method):
    assert same(train(method, 3), mean_each_step())


def test_papa_that_pulls_all_the_way_is_local_sgd_with_one_step():
    """PAPA pulls after the last step too; before it they are the same."""
    papa, local = make(Papa, alpha=0.0, lr_scaling="none", every=1), make(LocalSgd, every=1)
    pulled, averaged = train(papa, 3), train(local, 3)
    mean = averaged.weights.mean(dim=0).expand(3, -1)
    torch.testing.assert_close(pulled.weights, mean, rtol=1e-5, atol=1e-5)
    mean = averaged.buffers.mean(dim=0).expand(3, -1)
    torch.testing.assert_close(pulled.buffers, mean, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("every", [1, 3, 7, 10])
@pytest.mark.parametrize("nesterov", [True, False])
def test_diloco_with_plain_outer_steps_of_rate_one_is_local_sgd(every: int, nesterov: bool):
    plain = {"outer_lr": 1.0, "outer_momentum": 0.0, "nesterov": nesterov}
    diloco = make(Diloco, every=every, **plain)
    start = common_start(3)
    local = train(make(LocalSgd, every=every), 3, population=start)
    trained = train(diloco, 3)
    assert same_bits(trained, local)
    assert not same(trained, train(make(Diloco, every=every), 3))
    # And so is its last step, which is taken as the merge.
    mean = trained.weights.mean(dim=0)
    assert torch.equal(diloco.outer_step(mean)[0], mean)


def test_papa_all_of_one_epoch_is_local_sgd_with_an_epochs_steps():
    all_epochs = train(make(PapaAll, every=1), 3)
    assert same_bits(all_epochs, train(make(LocalSgd, every=PLAN.steps_per_epoch), 3))
    start = common_start(3)
    outer = make(Diloco, every=PLAN.steps_per_epoch, outer_lr=1.0, outer_momentum=0.0)
    assert same_bits(train(outer, 3), train(make(PapaAll, every=1), 3, population=start))


@pytest.mark.parametrize("k", [2, 3])
def test_papa_all_of_k_epochs_does_at_its_moments_what_local_sgd_does_at_its(k: int):
    """It starts with epoch 0, local SGD with step H: the moments are k - 1 epochs apart."""
    papa, local = make(PapaAll, every=k), make(LocalSgd, every=k * PLAN.steps_per_epoch)
    clocks = list(PLAN.clocks())
    shift = (k - 1) * PLAN.steps_per_epoch
    for early, late in zip(clocks, clocks[shift:], strict=False):
        if late.last:
            continue
        one, two = small_population(3), small_population(3)
        papa.after_step(one, LocalExchange(3, 0), early)
        local.after_step(two, LocalExchange(3, 0), late)
        assert same_bits(one, two)


def test_papa_2_of_two_members_is_papa_all():
    for pairing in ("sampled", "matching"):
        two = train(make(Papa2, every=1, pairing=pairing), 2)
        assert same(two, train(make(PapaAll, every=1), 2))


def test_sparta_diloco_without_sparse_means_is_diloco():
    assert same_bits(train(make(SpartaDiloco, every=6, p=0.0), 3), train(make(Diloco, every=6), 3))


# What holds for all ------------------------------------------------------------------------------


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
