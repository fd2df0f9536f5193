"""Identities between the methods.

The rules differ in which coordinates they touch, when, and by what operator; at the ends of their
options they become each other.
"""

from __future__ import annotations

import pytest
import torch

from tests.support.identities import common_start, make, move, same, same_bits, train
from tests.support.populations import PLAN, small_population
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
