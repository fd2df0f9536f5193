"""Small populations for tests: two convolutions, two BatchNorms and a classifier."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from wash_bench.core.population import Population
from wash_bench.core.step_info import Schedule

PLAN = Schedule("cosine", 0.1, 1e-4, steps=40, steps_per_epoch=10)


def small_network() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, bias=False),
        nn.BatchNorm2d(4),
        nn.Conv2d(4, 6, 3),
        nn.BatchNorm2d(6),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(6, 3),
    )


def small_population(n: int, slots: Sequence[str] = ("momentum",), seed: int = 0) -> Population:
    """Members whose every number differs, buffers and optimizer state included."""
    population = Population(lambda _: small_network(), n, optimizer_slots=slots)
    generator = torch.Generator().manual_seed(seed)
    for rows in (population.weights, population.buffers, *population.optimizer_state.values()):
        rows.copy_(torch.randn(rows.shape, generator=generator))
    population.counters.copy_(torch.arange(population.counters.numel()).view(n, -1))
    population.optimizer_steps.copy_(torch.arange(n) + 1.0)
    return population


def tensors(population: Population) -> dict[str, torch.Tensor]:
    return {
        "weights": population.weights,
        "buffers": population.buffers,
        "counters": population.counters,
        "steps": population.optimizer_steps,
        **population.optimizer_state,
    }


def copies(population: Population) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in tensors(population).items()}


def changed(population: Population, before: dict[str, torch.Tensor]) -> set[str]:
    return {name for name, now in tensors(population).items() if not torch.equal(now, before[name])}
