"""The judge: the usual merges of one trained population, selected on validation data only."""

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property

from torch import Tensor, nn

from wash_bench.core.merge_context import Predictor, StudentLoss, StudentStart
from wash_bench.core.population import ModelState, bind
from wash_bench.errors import CellFailure
from wash_bench.evaluate.evaluator import Evaluator
from wash_bench.evaluate.greedy import greedy_choice
from wash_bench.evaluate.scores import accuracy, nll


@dataclass(frozen=True)
class Student:
    """A network that was trained for a merge rule, and what it cost."""

    state: ModelState
    steps: int
    seconds: float


class UsualMerges(ABC):
    """The usual merges of a ``MergeContext``, each made once.

    Attributes:
        members: the members' states.
    """

    members: list[ModelState]

    @abstractmethod
    def validation_accuracy(self, state: ModelState) -> float:
        """What the greedy soup selects by, higher is better."""

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
        chosen = tuple(greedy_choice(accuracies, evaluate))
        state = soups.get(chosen) or ModelState.mean([self.members[m] for m in chosen])
        return Predictor([state], chosen)


class PopulationJudge(UsualMerges):
    """Implements ``MergeContext``.

    Args:
        evaluator: runs states of the population.
        initial: makes the common start of the members; None if they started apart.
        bn_images: images of BatchNorm re-estimation; 0 for the training set.
        train: trains a further network under the run's settings, for ``trained``.

    Attributes:
        spent: steps and seconds of the networks trained since it was emptied, by name of the
            record's columns.
    """

    def __init__(
        self,
        evaluator: Evaluator,
        initial: Callable[[], ModelState] | None = None,
        bn_images: int = 0,
        train: Callable[[StudentLoss, StudentStart, float], Student] | None = None,
    ) -> None:
        self._evaluator = evaluator
        self._initial = initial
        self._bn_images = bn_images
        self._train = train
        self.spent: dict[str, float] = {}
        self.members = evaluator.population.states()
        self.layout = evaluator.population.layout
        self.seed = evaluator.seed

    def validation_accuracy(self, state: ModelState) -> float:
        """NaN where outputs are not numbers, so that no choice takes the state."""
        evaluator = self._evaluator
        return accuracy(evaluator.log_probs(state, "val"), evaluator.labels("val"))

    def validation_loss(self, state: ModelState) -> float:
        evaluator = self._evaluator
        return nll(evaluator.log_probs(state, "val"), evaluator.labels("val"))

    def training_batches(
        self, images: int = 0, batch_size: int = 250
    ) -> Iterator[tuple[Tensor, Tensor]]:
        data = self._evaluator.data
        return data.eval_batches("train", 0 if images >= data.train_size else images, batch_size)

    def validation_batches(self, batch_size: int = 250) -> Iterator[tuple[Tensor, Tensor]]:
        return self._evaluator.data.eval_batches("val", 0, batch_size)

    def network(self, state: ModelState, gradients: bool = False) -> nn.Module:
        module = copy.deepcopy(self._evaluator.shell)
        bind(module, self.layout, state, None, self._evaluator.population.channels_last)
        return module.requires_grad_(gradients).eval()

    def reestimated(self, state: ModelState, images: int = 0) -> ModelState:
        return self._evaluator.reestimated(state, images or self._bn_images)

    def initial(self) -> ModelState | None:
        return self._initial() if self._initial else None

    def trained(self, loss: StudentLoss, start: StudentStart, epochs: float = 1.0) -> ModelState:
        if self._train is None:
            raise CellFailure("there are no settings to train a network with")
        student = self._train(loss, start, epochs)
        for name, value in (("steps", student.steps), ("seconds", student.seconds)):
            self.spent[f"student_{name}"] = self.spent.get(f"student_{name}", 0) + value
        return student.state
