"""DiLoCo and SPARTA against restatements in plain loops."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from tests.support import reference_rules
from tests.support.averaging_rules import close, local_steps, move
from tests.support.populations import PLAN, changed, copies, small_population, tensors
from wash_bench.core.exchange import LocalExchange
from wash_bench.core.merge_context import Predictor
from wash_bench.core.population import ModelState
from wash_bench.methods.diloco import Diloco, DilocoOptions
from wash_bench.methods.sparta import Sparta, SpartaOptions
from wash_bench.methods.sparta_diloco import SpartaDiloco, SpartaDilocoOptions

LAST = PLAN.steps - 1
# DiLoCo ------------------------------------------------------------------------------------------

OUTER = [(0.7, 0.9, True), (0.7, 0.9, False), (1.0, 0.0, True), (0.3, 0.5, True), (1.2, 0.0, False)]


@pytest.mark.parametrize(("lr", "momentum", "nesterov"), OUTER)
def test_diloco_equals_the_outer_optimizer_of_torch(lr, momentum, nesterov):
    population, exchange = small_population(3), LocalExchange(3, 0)
    options = DilocoOptions(every=6, outer_lr=lr, outer_momentum=momentum, nesterov=nesterov)
    method = Diloco(options)
    method.start(population, exchange)
    outer = torch.nn.Parameter(small_population(3).weights[0].double())
    sgd = torch.optim.SGD([outer], lr, momentum=momentum, nesterov=nesterov and momentum > 0)

    def outer_step() -> None:
        mean = torch.tensor(reference_rules.mean(population.weights.tolist())).double()
        outer.grad = outer.detach() - mean
        sgd.step()

    for clock in PLAN.clocks():
        move(population, clock)
        before = copies(population)
        if clock.step in local_steps(40, 6):
            outer_step()
            method.after_step(population, exchange, clock)
            assert changed(population, before) == {"weights", "buffers"}
            close(population.weights, outer.detach().expand(3, -1))
            close(population.buffers, [reference_rules.mean(before["buffers"].tolist())] * 3)
        else:
            method.after_step(population, exchange, clock)
            assert not changed(population, before)
    # The last outer step is the merge.
    average = ModelState.mean(population.states())
    predictors = method.predictors(population, _Averages(average))
    outer_step()
    assert list(predictors) == ["global", "average"]
    close(predictors["global"].states[0].weights, outer.detach())
    assert torch.equal(predictors["global"].states[0].buffers, average.buffers + 1)
    assert predictors["global"].members == (0, 1, 2)
    assert torch.equal(predictors["average"].states[0].weights, average.weights)


class _Averages:
    """As much of a judge as the rule asks for."""

    def __init__(self, state: ModelState) -> None:
        self.state = state

    def average(self) -> Predictor:
        return Predictor([self.state], (0, 1, 2))

    def reestimated(self, state: ModelState) -> ModelState:
        return ModelState(state.weights, state.buffers + 1, state.counters)


# SPARTA ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("buffers", [False, True])
@pytest.mark.parametrize("selector", ["random", "partitioned"])
def test_sparta_replaces_whole_coordinates_by_their_mean(selector: str, buffers: bool):
    population, exchange = small_population(3), LocalExchange(3, 7)
    options = SpartaOptions(p=0.2, selector=selector, every=2, buffers=buffers)
    method, hit = Sparta(options), {"weights": 0, "buffers": 0}
    for clock in PLAN.clocks():
        move(population, clock)
        before = copies(population)
        method.after_step(population, exchange, clock)
        due = clock.step % 2 == 1 and clock.step != LAST
        assert bool(changed(population, before)) == due
        for name in ("weights", "buffers"):
            old, new = before[name], tensors(population)[name]
            touched = (old != new).any(dim=0)
            hit[name] += int(touched.sum())
            mean = np.array(reference_rules.mean(old.tolist()))
            close(new[:, touched], np.tile(mean[touched.numpy()], (3, 1)))
            assert torch.equal(new[:, ~touched], old[:, ~touched])
    for name, size in (("weights", population.weights.shape[1]), ("buffers", 20)):
        expected = 19 * 0.2 * size if name == "weights" or buffers else 0
        assert hit[name] == pytest.approx(expected, abs=5 * math.sqrt(expected))


@pytest.mark.parametrize("p", [0.3, 0.25, 0.07, 1.0])
def test_partitioned_coordinates_have_one_turn_a_cycle(p: float):
    size, method = 101, Sparta(SpartaOptions(p=p, selector="partitioned"))
    parts = math.ceil(round(1 / p, 9))
    exchange = LocalExchange(3, 2)
    clocks = [PLAN.clock(step) for step in range(2 * parts)]
    turns = [method.select(size, "weights", exchange, clock) for clock in clocks]
    one, two = turns[:parts], turns[parts:]
    for cycle in (one, two):
        assert sorted(np.concatenate(cycle).tolist()) == list(range(size))
        assert max(map(len, cycle)) - min(map(len, cycle)) <= 1
    if parts > 1:
        assert any(not np.array_equal(a, b) for a, b in zip(one, two, strict=True))


def test_more_parts_than_coordinates_are_not_made():
    method = Sparta(SpartaOptions(p=0.001, selector="partitioned"))
    exchange = LocalExchange(3, 2)
    turns = [method.select(5, "weights", exchange, PLAN.clock(step)) for step in range(5)]
    assert sorted(np.concatenate(turns).tolist()) == [0, 1, 2, 3, 4]


def test_sparta_diloco_is_one_rule_after_the_other():
    both = SpartaDiloco(SpartaDilocoOptions(every=6, p=0.3, sparse_every=2))
    sparse, outer = Sparta(SpartaOptions(p=0.3, every=2)), Diloco(DilocoOptions(every=6))
    one, two = small_population(3), small_population(3)
    exchange = LocalExchange(3, 1)
    both.start(one, exchange)
    outer.start(two, exchange)
    for clock in PLAN.clocks():
        for population in (one, two):
            move(population, clock)
        both.after_step(one, exchange, clock)
        sparse.after_step(two, exchange, clock)
        outer.after_step(two, exchange, clock)
        assert torch.equal(one.weights, two.weights) and torch.equal(one.buffers, two.buffers)
