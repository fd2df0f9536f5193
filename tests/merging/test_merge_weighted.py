"""Merge rules that weight or choose the members, against naive restatements."""

from __future__ import annotations

import math
import statistics
from itertools import combinations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.populations import small_population
from tests.support.random_members import FakeJudge, columns, members, merged, values
from wash_bench.core.population import ModelState
from wash_bench.errors import CellFailure
from wash_bench.methods.bound_weights import BoundWeights, BoundWeightsOptions, bounds, shares
from wash_bench.methods.diwa import Diwa, DiwaOptions, restricted
from wash_bench.methods.model_stock import ModelStock
from wash_bench.methods.optimal_average import OptimalAverage


def test_model_stock_equals_the_formula_for_each_tensor():
    population, start = members(3), small_population(1, seed=99).state(0)
    result = merged(ModelStock, population, start=start)
    np.testing.assert_allclose(result.buffers, population.buffers.mean(dim=0), rtol=1e-6)
    shares = []
    for piece in population.layout.slices:
        part = slice(piece.offset, piece.stop)
        origin = start.weights[part].double().numpy()
        deltas = population.weights[:, part].double().numpy() - origin
        cosines = [
            sum(x * y for x, y in zip(a, b, strict=True))
            / math.sqrt(sum(x * x for x in a) * sum(y * y for y in b))
            for a, b in combinations(deltas, 2)
        ]
        cosine = max(0.0, sum(cosines) / 3)
        t = 3 * cosine / (1 + 2 * cosine)
        shares.append(t)
        expected = t * deltas.mean(axis=0) + origin
        np.testing.assert_allclose(result.weights[part], expected, rtol=1e-4, atol=1e-5)
    assert min(shares) == 0 and 0 < max(shares) < 1


def test_model_stock_of_equal_and_of_orthogonal_changes():
    population, start = members(2), small_population(1, seed=99).state(0)
    population.weights[:] = start.weights
    first = population.layout.slices[0]
    population.weights[0, first.offset] += 1
    population.weights[1, first.offset + 1] += 1
    torch.testing.assert_close(merged(ModelStock, population, start=start).weights, start.weights)
    population.weights[1] = population.weights[0]
    torch.testing.assert_close(
        merged(ModelStock, population, start=start).weights, population.weights[0]
    )


def test_model_stock_asks_for_a_common_start_and_offers_fresh_statistics():
    population = members(3)
    with pytest.raises(CellFailure, match="--init shared"):
        merged(ModelStock, population, start=None)
    judge = FakeJudge(population, small_population(1).state(0))
    predictors = ModelStock().predictors(population, judge)
    assert list(predictors) == ["model-stock", "reestimated", "average"]
    assert predictors["reestimated"].states[0].buffers.eq(1).all()


@pytest.mark.parametrize("n", [2, 3, 6])
def test_optimal_average_equals_the_formula_for_each_tensor(n):
    population = members(n)  # member 0 is the best: the labels are its own
    result, layout = merged(OptimalAverage, population), population.layout
    alphas = []
    for pieces, rows, got in (
        (layout.slices, population.weights, result.weights),
        (layout.buffers, population.buffers, result.buffers),
    ):
        for piece in pieces:
            own, *others = rows[:, piece.offset : piece.stop].double().tolist()
            columns = list(zip(*others, strict=True))
            mean = [statistics.fmean(column) for column in columns]
            gap = statistics.fmean([(x - m) ** 2 for x, m in zip(own, mean, strict=True)])
            if n == 2:
                s2 = statistics.fmean(
                    [statistics.variance(pair) for pair in zip(own, *others, strict=True)]
                )
            else:
                s2 = statistics.fmean([statistics.variance(column) for column in columns])
            t2 = s2 / (n - 1)
            alpha = s2 / (s2 + t2 + max(0.0, gap - s2 - t2))
            alphas.append(alpha)
            expected = [(1 - alpha) * x + alpha * m for x, m in zip(own, mean, strict=True)]
            np.testing.assert_allclose(got[piece.offset : piece.stop], expected, 1e-4, 1e-6)
    assert max(alphas) == pytest.approx((n - 1) / n)  # no bias: the uniform soup
    assert n == 2 or min(alphas) < 0.9 * (n - 1) / n


def test_optimal_average_keeps_a_member_that_stands_apart():
    population = members(4)
    population.weights[0] += 100
    judge_own = merged(OptimalAverage, population).weights
    torch.testing.assert_close(judge_own, population.weights[0], rtol=1e-3, atol=0.02)


def test_diwa_keeps_what_does_not_lower_the_accuracy():
    table = {(2, 0): 80.0, (2, 0, 3): 79.9, (2, 0, 1): 81.0}
    accuracies = [70.0, 50.0, 80.0, 60.0]
    assert restricted(accuracies, lambda chosen: table[tuple(chosen)]) == [2, 0, 1]
    assert restricted([5.0], lambda chosen: pytest.fail("nothing to ask")) == [0]


def test_diwa_delivers_the_mean_of_the_chosen():
    population = members(4, spread=1.0)
    judge = FakeJudge(population)
    found = Diwa().merge(population, judge)
    chosen = restricted(
        [judge.validation_accuracy(state) for state in judge.members],
        lambda some: judge.validation_accuracy(ModelState.mean([judge.members[m] for m in some])),
    )
    assert found.members == tuple(chosen) and 0 < len(chosen) < 4
    expected = [
        statistics.fmean([column[member] for member in chosen]) for column in columns(population)
    ]
    np.testing.assert_allclose(values(found.states[0]), expected, 1e-5, 1e-6)
    uniform = Diwa(DiwaOptions(selection="uniform")).merge(population, judge)
    assert uniform.members == (0, 1, 2, 3)


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.tuples(st.floats(0.01, 1), st.floats(0.01, 1), st.floats(0, 1)), min_size=2),
    st.floats(0.01, 0.9),
)
def test_bounds_hold_for_every_distribution_within_the_radius(atoms, radius):
    p = np.array([a for a, _, _ in atoms]) / sum(a for a, _, _ in atoms)
    q = np.array([b for _, b, _ in atoms]) / sum(b for _, b, _ in atoms)
    f = np.array([loss for _, _, loss in atoms])
    while 1 - np.sqrt(p * q).sum() > radius**2:  # the square of the Hellinger distance
        q = (p + q) / 2
    mean = float(p @ f)
    low, high = bounds(mean, float(p @ (f - mean) ** 2), radius)
    assert 0 <= low <= q @ f + 1e-9 and q @ f - 1e-9 <= high <= 1


def test_bounds_are_tight_for_a_loss_of_zeros_and_ones():
    p, radius = 0.3, 0.2  # the worst shift of a Bernoulli variable, by search over all of them
    grid = np.linspace(0, 1, 200001)
    near = grid[1 - np.sqrt(p * grid) - np.sqrt((1 - p) * (1 - grid)) <= radius**2]
    assert bounds(p, p * (1 - p), radius) == pytest.approx((near.min(), near.max()), abs=1e-4)


@pytest.mark.parametrize("data", ["validation", "training"])
@pytest.mark.parametrize("proportion", ["direct", "inverse"])
def test_bound_weights_mix_by_the_widths_of_the_bounds(data, proportion):
    population = members(3)
    judge = FakeJudge(population)
    rule = BoundWeights(BoundWeightsOptions(data=data, proportion=proportion, images=30))
    images = judge.images if data == "validation" else judge.images.flip(3)[:30]
    widths = []
    for state in judge.members:
        with torch.no_grad():
            probabilities = judge.network(state)(images).softmax(dim=1).tolist()
        losses = [
            (1 - row[label]) ** 2
            for row, label in zip(probabilities, judge.labels.tolist(), strict=False)
        ]
        low, high = bounds(statistics.fmean(losses), statistics.pvariance(losses), 0.1)
        widths.append(high - low)
    if proportion == "inverse":
        widths = [1 / width for width in widths]
    expected = [
        sum(w * x for w, x in zip(widths, column, strict=True)) / sum(widths)
        for column in columns(population)
    ]
    assert max(widths) > 1.01 * min(widths)
    np.testing.assert_allclose(values(merged(rule, population)), expected, 1e-4, 1e-5)


def test_shares_of_bounds_without_width():
    assert shares([0.0, 0.0]) == [0.5, 0.5]
    assert shares([0.0, 0.3], inverse=True) == [1.0, 0.0]
    assert shares([0.1, 0.3], inverse=True) == pytest.approx([0.75, 0.25])
