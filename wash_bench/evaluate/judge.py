"""What a method's merge rule may ask: the usual merges, and validation accuracy (never test)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from wash_bench.core.population import ModelState


@dataclass
class Predictor:
    """Something that predicts: one state, or several whose probabilities are averaged.

    Attributes:
        states: the network states; more than one means an ensemble.
        members: indices of the population's members that it is made of.
    """

    states: list[ModelState]
    members: tuple[int, ...]


class Judge(Protocol):
    """Offered to ``Method.predictors``."""

    def validation_accuracy(self, state: ModelState) -> float:
        """Accuracy in per cent of one state on the un-augmented validation split."""
        ...

    def ensemble(self) -> Predictor:
        """All members, probabilities averaged."""
        ...

    def average(self) -> Predictor:
        """The uniform average of all members, BatchNorm statistics averaged."""
        ...

    def greedy(self) -> Predictor:
        """The greedy soup (Wortsman et al. 2022): strictly better on validation, one pass."""
        ...
