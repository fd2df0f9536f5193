"""Merge rules, members and a judge for the tests of merging."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from tests.support.populations import small_network, small_population
from wash_bench.core.merge_context import Predictor
from wash_bench.core.method import Method
from wash_bench.core.population import ModelState, Population, bind
from wash_bench.methods.geometric_median import GeometricMedianOptions

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
