"""The judge: the usual merges of one trained population, selected on validation data only."""

from __future__ import annotations

from functools import cached_property

from wash_bench.core.population import ModelState
from wash_bench.evaluate.evaluator import Evaluator
from wash_bench.evaluate.judge import Predictor
from wash_bench.evaluate.metrics import accuracy
from wash_bench.methods.greedy_soup import greedy_soup


class PopulationJudge:
    """Implements ``judge.Judge``; every merge is made once."""

    def __init__(self, evaluator: Evaluator) -> None:
        self._evaluator = evaluator
        self.members = evaluator.population.states()

    def validation_accuracy(self, state: ModelState) -> float:
        evaluator = self._evaluator
        return accuracy(evaluator.log_probs(state, "val"), evaluator.labels("val"))

    def ensemble(self) -> Predictor:
        return Predictor(self.members, tuple(range(len(self.members))))

    def average(self) -> Predictor:
        return self._average

    def greedy(self) -> Predictor:
        return self._greedy

    @cached_property
    def _average(self) -> Predictor:
        return Predictor([ModelState.mean(self.members)], tuple(range(len(self.members))))

    @cached_property
    def _greedy(self) -> Predictor:
        soups: dict[tuple[int, ...], ModelState] = {}

        def evaluate(chosen: list[int]) -> float:
            key = tuple(chosen)
            soups[key] = ModelState.mean([self.members[member] for member in chosen])
            return self.validation_accuracy(soups[key])

        accuracies = [self.validation_accuracy(member) for member in self.members]
        chosen = tuple(greedy_soup(accuracies, evaluate))
        state = soups.get(chosen) or ModelState.mean([self.members[m] for m in chosen])
        return Predictor([state], chosen)
