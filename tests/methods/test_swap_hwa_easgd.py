"""SWAP, HWA and EASGD against restatements in plain loops."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.support.method_checks import FakeJudge, close, mean
from tests.support.method_trainings import training
from tests.support.populations import changed, small_network, small_population, tensors
from wash_bench.config import TrainingConfig
from wash_bench.core.exchange import LocalExchange
from wash_bench.core.population import Population
from wash_bench.core.step_info import Schedule
from wash_bench.methods.easgd import Easgd, EasgdOptions
from wash_bench.methods.hwa import Hwa, HwaOptions
from wash_bench.methods.swap import Swap, SwapOptions
from wash_bench.train.optim import RowOptimizer

# SWAP ----------------------------------------------------------------------------------------


def test_swap_is_large_batch_sgd_and_then_apart():
    """Against one network that takes steps with the mean of the members' gradients."""
    n, plan, wd, m = 3, Schedule("cosine", 0.1, 1e-3, 20, 5), 0.01, 0.9
    population = Population(lambda _: small_network(), n, optimizer_slots=("momentum_buffer",))
    config = TrainingConfig(optimizer="sgd", lr=0.1, momentum=m, weight_decay=wd)
    optimizer, exchange = RowOptimizer(population, config), LocalExchange(n, 0)
    rng = np.random.default_rng(0)
    d = population.layout.size
    curvature, target = rng.uniform(0.2, 2, (n, d)), rng.standard_normal((n, d))
    method = Swap(SwapOptions(phase1=0.6))
    method.start(population, exchange)
    theta = population.weights.double().numpy().copy()
    v = np.zeros_like(theta)
    assert (theta == theta[0]).all()
    for clock in plan.clocks():
        for row in range(n):
            weights = population.weights[row].double().numpy()
            gradient = curvature[row] * (weights - target[row])
            population.gradient_row(0).copy_(torch.from_numpy(gradient))
            optimizer.step(row, clock.lr)
        method.after_step(population, exchange, clock)
        g = curvature * (theta - target)
        if clock.step < 12:
            g[:] = g.mean(axis=0)
        v = m * v + g + wd * theta
        theta = theta - clock.lr * v
        np.testing.assert_allclose(population.weights, theta, rtol=1e-4, atol=1e-5)
    assert not torch.equal(population.weights[0], population.weights[1])


def test_swap_delivers_the_average_with_new_statistics():
    population = small_population(3)
    delivered = Swap().predictors(population, FakeJudge(population))
    assert list(delivered) == ["swap", "average"]
    state = delivered["swap"].states[0]
    np.testing.assert_allclose(state.weights, mean(population.weights), **close)
    assert (state.buffers == 7).all()


# HWA -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("every", "window"), [(0, 2), (7, 3), (7, 1), (4, 50)])
def test_hwa_averages_online_and_the_last_averages_offline(every, window):
    population, exchange = small_population(3), LocalExchange(3, 0)
    method, means = Hwa(HwaOptions(every=every, window=window)), []
    for clock, before in training(method, population, exchange):
        if (clock.step + 1) % (every or 10) == 0 and clock.step != 39:
            means.append(mean(before["weights"]))
            assert changed(population, before) == {"weights", "buffers"}
            np.testing.assert_allclose(population.weights, [means[-1]] * 3, **close)
            np.testing.assert_allclose(population.buffers, [mean(before["buffers"])] * 3, **close)
        else:
            assert not changed(population, before)
    means.append(mean(population.weights))
    latest = np.array(means[-window:])
    delivered = method.predictors(population, FakeJudge(population))
    assert list(delivered) == ["hwa", "average"]
    state = delivered["hwa"].states[0]
    np.testing.assert_allclose(state.weights, latest.sum(0) / len(latest), **close)
    assert (state.buffers == 7).all()


# EASGD ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("beta", "every", "n"), [(0.9, 3, 4), (0.3, 1, 2), (0.0, 2, 3)])
def test_easgd_equals_the_papers_two_sided_pull(beta, every, n):
    population, exchange = small_population(n), LocalExchange(n, 0)
    method = Easgd(EasgdOptions(beta=beta, every=every))
    alpha = beta / n
    centre = {name: tensors(population)[name][0].tolist() for name in ("weights", "buffers")}
    for clock, before in training(method, population, exchange):
        if (clock.step + 1) % every:
            assert not changed(population, before)
            continue
        for name, c in centre.items():
            rows = before[name].tolist()
            expected = [[x - alpha * (x - y) for x, y in zip(row, c, strict=True)] for row in rows]
            for i, y in enumerate(c):
                c[i] = y + alpha * sum(row[i] - y for row in rows)
            np.testing.assert_allclose(tensors(population)[name], expected, **close)
            np.testing.assert_allclose(method.state_dict()[name], c, **close)
        assert changed(population, before) <= {"weights", "buffers"}
    delivered = method.predictors(population, FakeJudge(population))
    assert list(delivered) == ["centre", "average"]
    np.testing.assert_allclose(delivered["centre"].states[0].weights, centre["weights"], **close)
    np.testing.assert_allclose(delivered["centre"].states[0].buffers, centre["buffers"], **close)
