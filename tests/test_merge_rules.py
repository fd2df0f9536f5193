"""Merge rules against naive restatements in plain Python, and what all of them must hold."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable
from itertools import combinations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.functional import cross_entropy

from tests.populations import small_network, small_population
from wash_bench.core.judge import Predictor
from wash_bench.core.method import Method
from wash_bench.core.population import ModelState, Population, bind
from wash_bench.errors import CellFailure
from wash_bench.merge.corrupt import corrupt
from wash_bench.methods import learned_soup
from wash_bench.methods.bound_weights import BoundWeights, BoundWeightsOptions, bounds, shares
from wash_bench.methods.diwa import Diwa, DiwaOptions, restricted
from wash_bench.methods.geometric_median import GeometricMedian, GeometricMedianOptions
from wash_bench.methods.learned_soup import LearnedSoup, LearnedSoupOptions
from wash_bench.methods.median import Median
from wash_bench.methods.model_stock import ModelStock
from wash_bench.methods.optimal_average import OptimalAverage
from wash_bench.methods.robust_mean import RobustMean, RobustMeanOptions
from wash_bench.methods.trimmed_mean import TrimmedMean, TrimmedMeanOptions
from wash_bench.methods.uniform_soup import UniformSoup
from wash_bench.methods.wash import Wash

ROBUST = [UniformSoup, Median, TrimmedMean, GeometricMedian, RobustMean]
RULES = [*ROBUST, LearnedSoup, Diwa, BoundWeights, OptimalAverage, ModelStock]
LAYER = GeometricMedianOptions(per="layer")


class FakeJudge:
    """A judge over 40 random images whose right labels are member 0's predictions."""

    def __init__(self, population: Population, start: ModelState | None = None) -> None:
        self.population, self.start = population, start
        self.members, self.layout, self.seed = population.states(), population.layout, 3
        generator = torch.Generator().manual_seed(1)
        self.images = torch.randn(40, 3, 8, 8, generator=generator)
        with torch.no_grad():
            self.labels = self.network(self.members[0])(self.images).argmax(dim=1)

    def network(self, state: ModelState, gradients: bool = False) -> nn.Module:
        network = small_network().eval().requires_grad_(gradients)
        bind(network, self.layout, state, None, self.population.channels_last)
        return network

    @torch.no_grad()
    def validation_accuracy(self, state: ModelState) -> float:
        guess = self.network(state)(self.images).argmax(dim=1)
        return 100 * (guess == self.labels).double().mean().item()

    @torch.no_grad()
    def validation_loss(self, state: ModelState) -> float:
        return cross_entropy(self.network(state)(self.images), self.labels).item()

    def validation_batches(self, batch_size: int = 250):
        return zip(self.images.split(batch_size), self.labels.split(batch_size), strict=True)

    def training_batches(self, images: int = 0, batch_size: int = 250):
        count = images or len(self.images)
        return zip(
            self.images[:count].flip(3).split(batch_size),
            self.labels[:count].split(batch_size),
            strict=True,
        )

    def reestimated(self, state: ModelState, images: int = 0) -> ModelState:
        return ModelState(state.weights, torch.ones_like(state.buffers), state.counters)

    def initial(self) -> ModelState | None:
        return self.start

    def average(self) -> Predictor:
        return Predictor([ModelState.mean(self.members)], tuple(range(len(self.members))))


def members(n: int, seed: int = 0, spread: float = 0.3) -> Population:
    """Members about one centre, with positive running variances."""
    population = small_population(n, seed=seed)
    centre = small_population(1, seed=99)
    population.weights.mul_(spread).add_(centre.weights)
    population.buffers.mul_(spread).add_(centre.buffers).abs_().add_(0.1)
    return population


def population_of(states: list[ModelState]) -> Population:
    population = members(len(states))
    for row, state in enumerate(states):
        population.weights[row] = state.weights
        population.buffers[row] = state.buffers
    return population


def merged(rule: type[Method] | Method, population: Population, **known) -> ModelState:
    method = rule() if isinstance(rule, type) else rule
    judge = FakeJudge(population, known.get("start", small_population(1, seed=7).state(0)))
    main = next(iter(method.predictors(population, judge).values()))
    (state,) = main.states
    return state


def columns(population: Population) -> list[tuple[float, ...]]:
    """Each coordinate's values, weights first."""
    both = torch.cat([population.weights, population.buffers], dim=1)
    return list(zip(*both.double().tolist(), strict=True))


def values(state: ModelState) -> np.ndarray:
    return torch.cat([state.weights, state.buffers]).double().numpy()


# Restatements ----------------------------------------------------------------------------------


def naive_trimmed(column: tuple[float, ...], k: int) -> float:
    left = list(column)
    for _ in range(k):
        left.remove(min(left))
        left.remove(max(left))
    return math.fsum(left) / len(left)


def naive_tukey(column: tuple[float, ...], c: float, iterations: int) -> float:
    mu = statistics.median(column)
    s = 1.4826 * statistics.median([abs(x - mu) for x in column])
    for _ in range(iterations):
        w = []
        for x in column:
            if s == 0:
                w.append(1.0 if x == mu else 0.0)
            else:
                u = (x - mu) / (c * s)
                w.append((1 - u * u) ** 2 if abs(u) < 1 else 0.0)
        mu = sum(a * x for a, x in zip(w, column, strict=True)) / sum(w)
    return mu


def naive_geometric_median(rows: np.ndarray) -> np.ndarray:
    """Gradient descent's patience: Weiszfeld on the vectors themselves, many steps."""
    m = rows.mean(axis=0)
    for _ in range(3000):
        w = 1 / np.maximum(np.sqrt(((rows - m) ** 2).sum(axis=1)), 1e-5)
        m = (w[:, None] * rows).sum(axis=0) / w.sum()
    return m


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 8])
def test_coordinate_wise_rules_equal_their_restatements(n):
    population = members(n)
    cases: list[tuple[Method, Callable]] = [
        (UniformSoup(), statistics.fmean),
        (Median(), statistics.median),
        (
            TrimmedMean(TrimmedMeanOptions(trim=0.3)),
            lambda c: naive_trimmed(c, {1: 0, 2: 0, 3: 1, 4: 1, 5: 2, 8: 3}[n]),
        ),
        (RobustMean(RobustMeanOptions(c=1.5, iterations=3)), lambda c: naive_tukey(c, 1.5, 3)),
    ]
    for rule, naive in cases:
        expected = [naive(column) for column in columns(population)]
        np.testing.assert_allclose(values(merged(rule, population)), expected, 1e-4, 1e-6)


def test_coordinate_wise_rules_work_through_chunks(monkeypatch):
    population = members(5)
    whole = values(merged(Median, population))
    monkeypatch.setattr("wash_bench.merge.columns.CHUNK", 7)
    np.testing.assert_array_equal(values(merged(Median, population)), whole)


def test_the_robust_mean_takes_the_value_of_a_majority_that_agrees():
    population = members(5)
    population.weights[:3] = population.weights[0]
    np.testing.assert_allclose(merged(RobustMean, population).weights, population.weights[0])


@pytest.mark.parametrize("n", [2, 3, 5])
def test_the_geometric_median_of_models_and_of_layers(n):
    population = members(n)
    rows = population.weights.double().numpy()
    whole = merged(GeometricMedian, population)
    if n > 2:  # of two points, every one between them is a median
        np.testing.assert_allclose(whole.weights, naive_geometric_median(rows), atol=1e-4)
    layered = merged(GeometricMedian(LAYER), population)
    layout = population.layout
    for layer in range(layout.layers()):
        pieces = [piece for piece in layout.slices if piece.leaf_module == layer]
        index = np.concatenate([np.arange(p.offset, p.stop) for p in pieces])
        expected = naive_geometric_median(rows[:, index])
        np.testing.assert_allclose(layered.weights.numpy()[index], expected, atol=1e-3)
    assert n == 2 or not torch.allclose(whole.weights, layered.weights, atol=1e-3)


def test_statistics_get_the_coefficients_of_the_whole_models_median():
    population = members(4)
    population.weights[2] += 1e4
    whole = merged(GeometricMedian, population)
    shares = GeometricMedian().coefficients(list(population.weights))
    assert shares[2] < 1e-3 and sum(shares) == pytest.approx(1)
    np.testing.assert_allclose(whole.buffers, np.array(shares) @ population.buffers.numpy(), 1e-5)


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


# The learned soup ------------------------------------------------------------------------------


@pytest.mark.parametrize("per", ["model", "layer"])
def test_the_learned_soup_starts_uniform_and_lowers_the_loss_that_it_optimizes(per):
    population = members(3, spread=1.0)
    judge = FakeJudge(population)
    uniform = judge.average().states[0]
    start = merged(LearnedSoup(LearnedSoupOptions(per=per, epochs=0)), population)
    torch.testing.assert_close(values(start), values(uniform))
    options = LearnedSoupOptions(per=per, epochs=30, batch_size=20)
    learned = merged(LearnedSoup(options), population)
    assert judge.validation_loss(learned) < judge.validation_loss(uniform)
    again = merged(LearnedSoup(options), population)
    assert torch.equal(learned.weights, again.weights)


def test_one_step_of_the_learned_soup_follows_the_numerical_gradient():
    """AdamW's first step has the size lr and the sign of the gradient, in each coefficient."""
    population = members(3, spread=1.0)
    judge = FakeJudge(population)
    lr = 1e-3
    rule = LearnedSoup(LearnedSoupOptions(per="layer", epochs=1, batch_size=40, lr=lr))
    got = merged(rule, population)
    layout = population.layout
    seen = set()
    for pieces, name in ((layout.slices, "weights"), (layout.buffers, "buffers")):
        rows = getattr(population, name).double()
        for piece in pieces:
            part = slice(piece.offset, piece.stop)

            def loss(raw: torch.Tensor, name=name, part=part, rows=rows) -> float:
                state = judge.average().states[0]
                getattr(state, name)[part] = (raw.softmax(0) @ rows[:, part]).float()
                network = judge.network(state).double()
                with torch.no_grad():
                    return cross_entropy(network(judge.images.double()), judge.labels).item()

            slopes = []
            for member in range(3):
                step = torch.zeros(3, dtype=torch.float64)
                step[member] = 1e-2
                slopes.append(loss(step) - loss(-step))
            if min(map(abs, slopes)) < 2e-5:  # too flat for float32 differences
                continue
            seen.add(piece.name)
            raw = torch.tensor([-lr * math.copysign(1, slope) for slope in slopes])
            expected = raw.double().softmax(0) @ rows[:, part]
            actual = getattr(got, name)[part]
            np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=2e-6, err_msg=piece.name)
    assert len(seen) >= 8 and any("running_var" in name for name in seen)


def test_the_learned_soup_streams_a_large_validation_split(monkeypatch):
    population = members(3, spread=1.0)
    monkeypatch.setattr(learned_soup, "KEPT_BYTES", 1000)
    judge = FakeJudge(population)
    learned = merged(LearnedSoup(LearnedSoupOptions(epochs=20, batch_size=20)), population)
    assert judge.validation_loss(learned) < judge.validation_loss(judge.average().states[0])


def test_folding_batchnorm_changes_nothing():
    population = members(1)
    judge = FakeJudge(population)
    network = judge.network(population.state(0))
    tensors = {**dict(network.named_parameters()), **dict(network.named_buffers())}
    folded = learned_soup.fold(network, tensors)
    assert folded["1.running_mean"].eq(0).all() and not tensors["1.running_mean"].eq(0).all()
    with torch.no_grad():
        got = torch.func.functional_call(network, folded, (judge.images,))
        torch.testing.assert_close(got, network(judge.images))
    plain = {"running_mean": torch.zeros(2).requires_grad_(), "running_var": torch.ones(2)}
    assert not learned_soup.fold(nn.BatchNorm2d(2, affine=False), plain)[
        "running_mean"
    ].requires_grad


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
