"""What a merge rule may ask: the usual merges, training and validation data (never test data)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:
    from torch import Tensor, nn

    from wash_bench.core.layout import Layout
    from wash_bench.core.population import ModelState


StudentStart = Literal["first", "fresh"]
"""Initial weights: those of the first member, or others that are drawn."""


class StudentLoss(Protocol):
    """The mean loss () of a network in training mode over images (B, C, H, W), with its graph."""

    def __call__(self, network: nn.Module, images: Tensor, /) -> Tensor: ...


@dataclass
class Predictor:
    """Something that predicts: one state, or several whose probabilities are averaged.

    Attributes:
        states: the network states; more than one means an ensemble.
        members: indices of the population's members that it is made of.
    """

    states: list[ModelState]
    members: tuple[int, ...]


class MergeContext(Protocol):
    """Offered to ``Method.predictors``.

    Attributes:
        members: the members' states, views: clone before writing.
        layout: the slices of a state's vectors.
        seed: the run's seed, for whatever a rule draws.
    """

    members: list[ModelState]
    layout: Layout
    seed: int

    def validation_accuracy(self, state: ModelState) -> float:
        """Accuracy in per cent of one state on the un-augmented validation split.

        NaN of a state whose outputs are not numbers; each member's are, or its cell has failed.
        """
        ...

    def validation_loss(self, state: ModelState) -> float:
        """Mean cross-entropy in nats on the same images."""
        ...

    def training_batches(
        self, images: int = 0, batch_size: int = 250
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Un-augmented training images (B, C, H, W) and labels (B,), in a fixed order.

        Args:
            images: a fixed subset with the classes' shares; 0 for all.
            batch_size: B, the last batch may be smaller.
        """
        ...

    def validation_batches(self, batch_size: int = 250) -> Iterator[tuple[Tensor, Tensor]]:
        """The same of the validation split."""
        ...

    def network(self, state: ModelState, gradients: bool = False) -> nn.Module:
        """An own copy of the architecture in eval mode, its tensors views of the state's vectors.

        Args:
            state: the weights and buffers.
            gradients: whether the parameters require gradients.
        """
        ...

    def reestimated(self, state: ModelState, images: int = 0) -> ModelState:
        """The state with BatchNorm statistics re-estimated on augmented training images.

        Args:
            state: left as it is.
            images: how many images; 0 for as many as the evaluation takes.
        """
        ...

    def initial(self) -> ModelState | None:
        """The weights that all members started from; None if they started apart."""
        ...

    def trained(self, loss: StudentLoss, start: StudentStart, epochs: float = 1.0) -> ModelState:
        """Train one further network with the run's optimizer and schedule.

        Args:
            loss: what is minimized on augmented training images.
            start: whose initial weights the network has.
            epochs: length as a share of the run's epochs, rounded to epochs, at least one.

        Returns:
            The network. Its steps and seconds are recorded.
        """
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


def best_member(judge: MergeContext) -> int:
    """Return the member with the highest validation accuracy; of several, the lowest loss."""

    def merit(member: int) -> tuple[float, float]:
        state = judge.members[member]
        return judge.validation_accuracy(state), -judge.validation_loss(state)

    return max(range(len(judge.members)), key=merit)  # the first of equals
