"""Small parts that the tests of the rules share."""

from __future__ import annotations

import torch

from wash_bench.core.merge_context import Predictor
from wash_bench.core.population import ModelState, Population

close = {"rtol": 1e-4, "atol": 2e-6}


class FakeJudge:
    """The average of a whole population, and a re-estimation that leaves a mark."""

    def __init__(self, population: Population) -> None:
        self.population = population

    def average(self) -> Predictor:
        states = self.population.states()
        return Predictor([ModelState.mean(states)], tuple(range(len(states))))

    def reestimated(self, state: ModelState, images: int = 0) -> ModelState:
        return ModelState(state.weights, torch.full_like(state.buffers, 7.0), state.counters)


def mean(rows) -> list[float]:
    return [sum(column) / len(column) for column in zip(*rows.tolist(), strict=True)]
