"""Weights from a generalization bound (after the abstract of arXiv 2311.05936).

The paper weighs the models of a federated round not by their shares of the data but in proportion
to the disagreement between an upper and a lower bound of the second-order origin moment of each
model's loss under a shifted distribution. **Only the abstract was at hand; the bounds, the loss
and the data below are this suite's choice.**

Let f be a squared loss in [0, 1], P the data, Q any distribution within Hellinger distance rho of
P, H^2 = 1 - sum sqrt(PQ), and E, V the mean and the variance of f under P. With a = 1 - rho^2

    L = (a E - sqrt((1 - a^2) V))_+^2 / E                   <= E_Q[f]
    U = 1 - (a (1 - E) - sqrt((1 - a^2) V))_+^2 / (1 - E)   >= E_Q[f]

(sqrt(Q) is a sqrt(P) plus sqrt(1 - a^2) times something orthogonal, and Cauchy's inequality in f's
inner product gives L; U is L of 1 - f.) Then

    w_n = (U_n - L_n) / sum_k (U_k - L_k),   theta* = sum_n w_n theta_n

The loss is 1 - p(label); the images are the validation split's (``data = "training"``, which a
federated client would use, is nearly without loss at the end of a training). ``proportion`` =
"inverse" takes 1/(U - L) instead: the abstract's words give the wider bound the larger weight.

BatchNorm's running statistics are averaged with the same weights; integer buffers are those of the
member with the largest. Deviation: the members are combined once, at the end.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from wash_bench.core.method import MethodOptions, option
from wash_bench.core.wrapper import MergeRule

if TYPE_CHECKING:
    from torch import Tensor

    from wash_bench.core.merge_context import MergeContext
    from wash_bench.core.population import ModelState, Population

ABSTRACT = "the paper is known from its abstract only"


class BoundWeightsOptions(MethodOptions):
    """Settings of the weights from a generalization bound."""

    radius: float = option(
        0.1,
        "rho, how far the shifted distribution may be",
        unit="Hellinger distance",
        unverified=ABSTRACT,
        gt=0,
        lt=1,
    )
    proportion: Literal["direct", "inverse"] = option(
        "direct", "weights that grow or fall with the width of the bound", unverified=ABSTRACT
    )
    data: Literal["validation", "training"] = option(
        "validation", "images whose loss is bounded", unverified=ABSTRACT
    )
    images: int = option(5000, "training images, with data = training (0: all)", ge=0)


def bounds(mean: float, variance: float, radius: float) -> tuple[float, float]:
    """Lower and upper bound of a mean in [0, 1] under a shift of at most ``radius``."""
    a = 1 - radius**2
    spread = math.sqrt((1 - a * a) * variance)

    def lower(value: float) -> float:
        return max(0.0, a * value - spread) ** 2 / value if value > 0 else 0.0

    return lower(mean), 1 - lower(1 - mean)


def shares(widths: Sequence[float], inverse: bool = False) -> list[float]:
    """The widths of the bounds as weights that sum to 1."""
    if inverse:
        least = min(widths)
        widths = [least / width if width > 0 else 1.0 for width in widths]
    total = sum(widths)
    return [width / total if total > 0 else 1 / len(widths) for width in widths]


class BoundWeights(MergeRule):
    """An average with weights from bounds of the members' losses under a shift."""

    name = "bound-weights"
    rule = "theta* = sum_n w_n theta_n, w_n ~ upper - lower bound of the shifted squared loss"
    paper = "after the abstract of arXiv 2311.05936"
    when = "to weigh members by how sure their loss is; this suite's reading of an abstract"
    needs = "a validation split"
    Options = BoundWeightsOptions
    options: BoundWeightsOptions

    def merge(self, population: Population, judge: MergeContext) -> ModelState:
        widths = []
        for member in judge.members:
            squared = self.losses(member, judge).square()
            mean, variance = squared.mean().item(), squared.var(correction=0).item()
            low, high = bounds(mean, variance, self.options.radius)
            widths.append(high - low)
        weights = shares(widths, self.options.proportion == "inverse")
        return type(judge.members[0]).combine(judge.members, weights)

    def losses(self, state: ModelState, judge: MergeContext) -> Tensor:
        """1 - p(label) of each image (B,), float64 on the CPU."""
        import torch

        network = judge.network(state)
        if self.options.data == "validation":
            batches = judge.validation_batches()
        else:
            batches = judge.training_batches(self.options.images)
        with torch.no_grad():
            parts = [
                1 - network(images).softmax(dim=1).gather(1, labels[:, None]).squeeze(1)
                for images, labels in batches
            ]
        return torch.cat(parts).double().cpu()
