"""A judge over a handful of given images, for tests of merge rules."""

from __future__ import annotations

import copy
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from wash_bench.core.merge_context import Predictor
from wash_bench.core.population import ModelState, Population, bind


class SmallJudge:
    """What a merge rule may ask of a judge; every batch is counted in ``passes``."""

    seed = 0

    def __init__(self, population: Population, images: Tensor, labels: Tensor) -> None:
        self.population = population
        self.members = population.states()
        self.layout = population.layout
        self.images, self.labels = images, labels
        self.passes = 0

    def network(self, state: ModelState, gradients: bool = False) -> nn.Module:
        module = copy.deepcopy(self.population.modules[0])
        bind(module, self.layout, state, None, self.population.channels_last)
        return module.requires_grad_(gradients).eval()

    def training_batches(
        self, images: int = 0, batch_size: int = 250
    ) -> Iterator[tuple[Tensor, Tensor]]:
        self.passes += 1
        end = images or len(self.images)
        yield from zip(self.images[:end].split(7), self.labels[:end].split(7), strict=True)

    def reestimated(self, state: ModelState, images: int = 0) -> ModelState:
        """Statistics of one batch of all images, by torch itself."""
        fresh = state.clone()
        module = self.network(fresh)
        for layer in module.modules():
            if isinstance(layer, nn.modules.batchnorm._BatchNorm):
                layer.momentum = 1.0
                layer.train()
        with torch.no_grad():
            module(self.images)
        return fresh

    def average(self) -> Predictor:
        return Predictor([ModelState.mean(self.members)], tuple(range(len(self.members))))

    @torch.no_grad()
    def logits(self, state: ModelState) -> Tensor:
        return self.network(state)(self.images)


def judged(
    networks: list[nn.Module], images: Tensor, labels: Tensor | None = None
) -> tuple[Population, SmallJudge]:
    """A population with these members (4-D weights channels-last in its rows), and its judge."""
    population = Population(lambda n: copy.deepcopy(networks[n]), len(networks))
    given = torch.zeros(len(images), dtype=torch.int64) if labels is None else labels
    return population, SmallJudge(population, images, given)
