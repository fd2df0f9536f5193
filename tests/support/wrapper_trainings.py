"""Trainings of wrapped methods with known displacements."""

from __future__ import annotations

import torch

from tests.support.populations import small_population
from wash_bench.core.exchange import LocalExchange
from wash_bench.core.step_info import Schedule
from wash_bench.plugins.registry import find_method, make_method

PLAN = Schedule("constant", 0.1, 0.0, steps=18, steps_per_epoch=3)


def walk(name: str, options: dict, plan: Schedule = PLAN):
    """A training in which weights and buffers move at random.

    Returns:
        The weights after every step as the method left them, what is measured, and the starts.
    """
    population = small_population(2)
    method = make_method(find_method(name), options)
    population.remember(method.member_slots())
    exchange = LocalExchange(2, 0)
    method.start(population, exchange)
    first = population.weights.double().numpy().copy()
    generator = torch.Generator().manual_seed(1)
    steps, trained = [], []
    for clock in plan.clocks():
        for rows in (population.weights, population.buffers):
            rows.add_(torch.randn(rows.shape, generator=generator))
        steps.append(population.weights.double().numpy().copy())
        method.after_step(population, exchange, clock)
        trained.append(population.weights.double().numpy().copy())
    return steps, trained, method.evaluated(population), first
