"""Wrappers along a trajectory: averages, Lookahead and schedule-free steps."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.support.populations import small_population
from tests.support.wrapper_trainings import PLAN, walk
from wash_bench.core.exchange import LocalExchange
from wash_bench.core.step_info import Schedule
from wash_bench.plugins.registry import find_method, make_method


def close(rows: torch.Tensor, expected: np.ndarray) -> None:
    np.testing.assert_allclose(rows.double().numpy(), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("warmup", [True, False])
def test_ema_is_the_geometric_mean_of_the_trajectory(warmup: bool) -> None:
    steps, _, measured, average = walk("ema", {"decay": 0.7, "warmup": warmup})
    for t, weights in enumerate(steps):
        beta = min(0.7, (1 + t) / (10 + t)) if warmup else 0.7
        average = beta * average + (1 - beta) * weights
    close(measured.weights, average)
    assert not np.allclose(average, steps[-1], atol=1e-2)


@pytest.mark.parametrize(
    ("options", "taken"),
    [
        ({"start": 0.5}, [11, 14, 17]),
        ({"start": 0.34, "every": 2}, [11, 17]),
        ({"start": 0.9, "every": 3}, [17]),  # none in time: the weights themselves
    ],
)
def test_swa_is_the_mean_at_the_ends_of_late_epochs(options: dict, taken: list[int]) -> None:
    steps, _, measured, _ = walk("swa", options)
    close(measured.weights, np.mean([steps[t] for t in taken], axis=0))


@pytest.mark.parametrize(
    ("options", "taken"),
    [
        ({"k": 3}, [11, 14, 17]),
        ({"k": 2, "every": 2}, [11, 17]),
        ({"k": 9}, [2, 5, 8, 11, 14, 17]),  # fewer than k
        ({"k": 3, "steps": 4}, [7, 11, 15]),
        ({"k": 2, "steps": 100}, [17]),
    ],
)
def test_lawa_is_the_mean_of_the_latest_checkpoints(options: dict, taken: list[int]) -> None:
    steps, _, measured, _ = walk("lawa", options)
    close(measured.weights, np.mean([steps[t] for t in taken], axis=0))


def test_lookahead_steps_back() -> None:
    steps, trained, measured, slow = walk("lookahead", {"every": 4, "alpha": 0.25})
    before = None
    for t, (fast, after) in enumerate(zip(steps, trained, strict=True)):
        if (t + 1) % 4 == 0:
            slow = slow + 0.25 * (fast - slow)
            np.testing.assert_allclose(after, slow, rtol=1e-4, atol=1e-4)
        else:
            np.testing.assert_array_equal(after, fast)
        before = after
    assert before is not None
    close(measured.weights, slow)


def _sgd(population, clock, pull: np.ndarray) -> None:
    """The loop's SGD with momentum 0.9 on the squared distance to ``pull``."""
    momentum = population.optimizer_state["momentum_buffer"]
    gradient = population.weights - torch.from_numpy(pull).float()
    momentum.mul_(0.9).add_(gradient)
    population.weights.add_(momentum, alpha=-clock.lr)


def test_schedule_free_is_the_papers_recursion() -> None:
    plan = Schedule("cosine", 0.02, 0.001, steps=12, steps_per_epoch=4)
    population = small_population(2, slots=("momentum_buffer",))
    population.optimizer_state["momentum_buffer"].zero_()
    method = make_method(find_method("schedule-free"), {"beta": 0.8, "scale": 10.0})
    population.remember(method.member_slots())
    exchange = LocalExchange(2, 0)
    method.start(population, exchange)
    pull = np.random.default_rng(0).standard_normal(tuple(population.weights.shape))
    x = y = z = population.weights.double().numpy().copy()
    for t, clock in enumerate(plan.clocks()):
        _sgd(population, clock, pull)
        method.after_step(population, exchange, clock)
        z = z - 0.2 * (y - pull)
        x = (1 - 1 / (t + 1)) * x + z / (t + 1)
        y = 0.2 * z + 0.8 * x
        close(population.weights, y)
    close(method.evaluated(population).weights, x)
    assert not np.allclose(x, y, atol=1e-2)


def test_what_couples_inside_moves_all_three_sequences() -> None:
    population = small_population(2, slots=("momentum_buffer",))
    method = make_method(find_method("papa+schedule-free"), {"alpha": 0.0, "every": 1})
    population.remember(method.member_slots())
    exchange = LocalExchange(2, 0)
    method.start(population, exchange)
    apart = population.weights[0] - population.weights[1]
    method.after_step(population, exchange, PLAN.clock(0))
    measured = method.evaluated(population).weights
    assert apart.norm() > 1
    torch.testing.assert_close(measured[0], measured[1], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("averaging", ["constant", "uniform"])
def test_gpa_is_the_papers_recursion_around_sgd_with_momentum(averaging: str) -> None:
    plan = Schedule("cosine", 0.05, 0.001, steps=20, steps_per_epoch=5)
    population = small_population(2, slots=("momentum_buffer",))
    population.optimizer_state["momentum_buffer"].zero_()
    method = make_method(find_method("gpa"), {"mu_x": 0.8, "averaging": averaging})
    population.remember(method.member_slots())
    exchange = LocalExchange(2, 0)
    method.start(population, exchange)
    pull = np.random.default_rng(0).standard_normal(tuple(population.weights.shape))
    x = y = z = population.weights.double().numpy().copy()
    m = np.zeros_like(x)
    for t, clock in enumerate(plan.clocks()):
        _sgd(population, clock, pull)
        method.after_step(population, exchange, clock)
        m = 0.9 * m + (y - pull)
        z = z - plan.at(t) * m
        mu_x = 0.8 if averaging == "constant" else 1 - 1 / (t + 1)
        x = mu_x * x + (1 - mu_x) * z
        y = 0.7 * x + 0.3 * z
        close(population.weights, y)
    close(method.evaluated(population).weights, x)
    assert not np.allclose(x, y, atol=1e-2)


def test_gpa_without_memory_is_its_base_optimizer() -> None:
    """mu_x = 0: x is z, and so is y."""
    plan = Schedule("cosine", 0.05, 0.001, steps=20, steps_per_epoch=5)
    pull = np.random.default_rng(0).standard_normal(tuple(small_population(2).weights.shape))
    ends = []
    for name, options in (("gpa", {"mu_x": 0.0}), ("naive-ensemble", {})):
        population = small_population(2, slots=("momentum_buffer",))
        method, exchange = make_method(find_method(name), options), LocalExchange(2, 0)
        population.remember(method.member_slots())
        method.start(population, exchange)
        for clock in plan.clocks():
            _sgd(population, clock, pull)
            method.after_step(population, exchange, clock)
        ends.append(population.weights.double().numpy())
        close(method.evaluated(population).weights, ends[-1])
    np.testing.assert_allclose(ends[0], ends[1], rtol=1e-5, atol=1e-5)


def test_gpa_with_a_uniform_mean_is_schedule_free() -> None:
    """mu_x = 1 - 1/t around SGD without momentum, at a constant rate."""
    plan = Schedule("constant", 0.05, 0.0, steps=20, steps_per_epoch=5)
    pull = np.random.default_rng(0).standard_normal(tuple(small_population(2).weights.shape))
    ends = []
    for name, options in (
        ("gpa", {"mu_y": 0.9, "averaging": "uniform"}),
        ("schedule-free", {"beta": 0.9, "scale": 1.0}),
    ):
        population = small_population(2, slots=("momentum_buffer",))
        method, exchange = make_method(find_method(name), options), LocalExchange(2, 0)
        population.remember(method.member_slots())
        method.start(population, exchange)
        for clock in plan.clocks():
            population.optimizer_state["momentum_buffer"].zero_()
            _sgd(population, clock, pull)
            method.after_step(population, exchange, clock)
        ends.append((population.weights.numpy(), method.evaluated(population).weights.numpy()))
    np.testing.assert_allclose(ends[0][0], ends[1][0], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(ends[0][1], ends[1][1], rtol=1e-4, atol=1e-5)
