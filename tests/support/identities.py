"""Trainings and comparisons for the identities between the methods."""

from __future__ import annotations

import torch

from tests.support.populations import PLAN, small_population, tensors
from wash_bench.core.exchange import LocalExchange
from wash_bench.core.method import Method
from wash_bench.core.population import Population
from wash_bench.core.step_info import StepInfo
from wash_bench.core.topology import start_equal


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


def move(population: Population, member: int, clock: StepInfo, seed: int) -> None:
    generator = torch.Generator().manual_seed(1000 * clock.step + seed)
    for rows in (population.weights, population.buffers, *population.optimizer_state.values()):
        rows[member] += 0.1 * torch.randn(rows.shape[1], generator=generator)
    population.counters[member] += 1
    population.optimizer_steps[member] += 1


def common_start(n: int) -> Population:
    """Members as those rules begin that let all start as member 0."""
    population = small_population(n)
    start_equal(population, LocalExchange(n, 0))
    return population


def same(one: Population, two: Population, **tolerance: float) -> bool:
    tolerance = {"rtol": 1e-5, "atol": 1e-5} | tolerance
    others = tensors(two)
    return all(
        torch.allclose(rows, others[name], **tolerance) for name, rows in tensors(one).items()
    )


def same_bits(one: Population, two: Population) -> bool:
    return same(one, two, rtol=0.0, atol=0.0)


def make(kind: type[Method], **options: object) -> Method:
    return kind(kind.Options(**options))
