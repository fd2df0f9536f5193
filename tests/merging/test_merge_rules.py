"""What all merge rules must hold, and the corruption of a member."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.random_members import LAYER, FakeJudge, members, merged, values
from wash_bench.core.population import ModelState, Population
from wash_bench.merging.corrupt import corrupt
from wash_bench.methods.bound_weights import BoundWeights
from wash_bench.methods.diwa import Diwa
from wash_bench.methods.geometric_median import GeometricMedian, GeometricMedianOptions
from wash_bench.methods.learned_soup import LearnedSoup
from wash_bench.methods.median import Median
from wash_bench.methods.model_stock import ModelStock
from wash_bench.methods.optimal_average import OptimalAverage
from wash_bench.methods.robust_mean import RobustMean
from wash_bench.methods.trimmed_mean import TrimmedMean
from wash_bench.methods.uniform_soup import UniformSoup
from wash_bench.methods.wash import Wash

ROBUST = [UniformSoup, Median, TrimmedMean, GeometricMedian, RobustMean]
RULES = [*ROBUST, LearnedSoup, Diwa, BoundWeights, OptimalAverage, ModelStock]


def population_of(states: list[ModelState]) -> Population:
    population = members(len(states))
    for row, state in enumerate(states):
        population.weights[row] = state.weights
        population.buffers[row] = state.buffers
    return population


# What every rule holds -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "rule", [*RULES, GeometricMedian(LAYER)], ids=[*(r.name for r in RULES), "by-layer"]
)
@pytest.mark.parametrize("n", [1, 2, 5])
def test_equal_members_are_a_fixed_point(rule, n):
    population = members(n)
    population.weights[:] = population.weights[0].clone()
    population.buffers[:] = population.buffers[0].clone()
    state = merged(rule, population)
    torch.testing.assert_close(state.weights, population.weights[0], rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(state.buffers, population.buffers[0], rtol=1e-6, atol=1e-6)
    assert state.counters.dtype == torch.int64


@pytest.mark.parametrize(
    "rule", [*RULES, GeometricMedian(LAYER)], ids=[*(r.name for r in RULES), "by-layer"]
)
def test_merging_leaves_the_members_alone(rule):
    population = members(4)
    before = population.weights.clone(), population.buffers.clone(), population.counters.clone()
    state = merged(rule, population)
    state.weights.zero_()
    state.buffers.zero_()
    after = population.weights, population.buffers, population.counters
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


@pytest.mark.slow
@settings(deadline=None, max_examples=10)
@given(st.permutations(range(5)), st.integers(0, 1000))
def test_the_order_of_the_members_does_not_matter(order, seed):
    """Rules that ask validation data are left out: the fake labels are those of member 0."""
    population = members(5, seed)
    shuffled = population_of([population.state(member) for member in order])
    for rule in (*ROBUST, GeometricMedian(LAYER), ModelStock):
        np.testing.assert_allclose(
            values(merged(rule, shuffled)), values(merged(rule, population)), 1e-4, 1e-5
        )


@settings(deadline=None, max_examples=15)
@given(st.integers(3, 7), st.floats(1, 1e5), st.integers(0, 1000))
def test_one_outlier_moves_robust_rules_boundedly(n, size, seed):
    population = members(n, seed)
    sound = population.weights[:-1].double()
    direction = torch.randn(sound.shape[1], generator=torch.Generator().manual_seed(seed))
    population.weights[-1] += size * direction
    low, high = sound.min(dim=0).values - 1e-5, sound.max(dim=0).values + 1e-5
    for rule in (Median, TrimmedMean, RobustMean):
        state = merged(rule, population)
        # A value has weight within 4.685 robust deviations, none of which exceeds the sound range.
        slack = 4.685 * 1.4826 * (high - low) if rule is RobustMean else 0
        assert ((state.weights >= low - slack) & (state.weights <= high + slack)).all()
    centre, radius = sound.mean(dim=0), (sound - sound.mean(dim=0)).norm(dim=1).max().item()
    for options in (GeometricMedianOptions(), LAYER):
        state = merged(GeometricMedian(options), population)
        # Minsker 2015, lemma 2.1, for the share 1/n of outliers.
        bound = 2 * (1 - 1 / n) / (1 - 2 / n) * radius * (1 + 1e-3)
        assert (state.weights - centre).norm() <= bound * math.sqrt(population.layout.layers())
        assert options == LAYER or (state.weights - centre).norm() <= bound


def test_one_outlier_carries_the_uniform_soup_away():
    population = members(5)
    population.weights[-1] += 1e5
    assert (merged(UniformSoup, population).weights > 1e4).all()


# Corruption ------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["noise", "sign", "zero"])
def test_corruption_spoils_one_member_of_a_copy(kind):
    states = members(3).states()
    before = [state.weights.clone() for state in states]
    broken = corrupt(states, 1, kind, np.random.default_rng(0))
    assert broken[0] is states[0] and broken[2] is states[2]
    assert all(torch.equal(state.weights, old) for state, old in zip(states, before, strict=True))
    torch.testing.assert_close(broken[1].buffers, states[1].buffers)
    change = broken[1].weights - before[1]
    if kind == "noise":
        size = before[1].square().mean().sqrt()
        assert change.std() / size == pytest.approx(10, rel=0.2)
        assert abs(change.mean() / size) < 3
    else:
        torch.testing.assert_close(change, before[1] * (-2 if kind == "sign" else -1))


def test_unknown_corruption_is_refused():
    with pytest.raises(ValueError, match="melt"):
        corrupt(members(2).states(), 0, "melt", np.random.default_rng(0))


@pytest.mark.parametrize("rule", ROBUST)
def test_the_corrupted_merge_stands_beside_the_clean_one(rule):
    population = members(5)
    judge = FakeJudge(population)
    clean = merged(rule, population)
    method = rule(rule.Options(corrupt="noise"))
    predictors = method.predictors(population, judge)
    assert list(predictors) == [rule.name, "clean", "average"]
    torch.testing.assert_close(predictors["clean"].states[0].weights, clean.weights)
    moved = (predictors[rule.name].states[0].weights - clean.weights).norm()
    again = method.predictors(population, judge)[rule.name].states[0]
    assert torch.equal(again.weights, predictors[rule.name].states[0].weights)
    size = population.weights.norm(dim=1).mean()
    assert moved > size if rule is UniformSoup else 0 < moved < size / 2


def test_all_rules_spoil_the_same_member_alike():
    population = members(3)
    judge = FakeJudge(population)
    spoiled = {}
    for rule in (UniformSoup, RobustMean):
        kept = {}

        class Watched(rule):
            def combine(self, states, layout, kept=kept):
                kept["states"] = states
                return super().combine(states, layout)

        Watched(rule.Options(corrupt="noise")).predictors(population, judge)
        spoiled[rule] = torch.stack([state.weights for state in kept["states"]])
    assert torch.equal(spoiled[UniformSoup], spoiled[RobustMean])
    assert (spoiled[UniformSoup] != population.weights).any(dim=1).sum() == 1


def test_a_merge_rule_reads_the_training_inside():
    around = Median(None, Wash())
    assert around.name == "wash+median"
    assert around.training_key() == Wash().training_key()
    population = members(3)
    predictors = around.predictors(population, FakeJudge(population))
    assert list(predictors) == ["median", "average"]
