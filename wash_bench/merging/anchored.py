"""Merges of networks that began as one: what they learned since, added to the common start."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from pydantic import field_validator

from wash_bench.core.method import MethodOptions, option
from wash_bench.core.wrapper import MergeRule
from wash_bench.errors import CellFailure

if TYPE_CHECKING:
    from torch import Tensor

    from wash_bench.core.layout import Layout
    from wash_bench.core.merge_context import MergeContext
    from wash_bench.core.population import ModelState, Population

Combination = Literal["sum", "mean"]
Scope = Literal["tensor", "model"]
COMBINE = "add the members' changes up, or average them"
SCALES = "lambda; of several, the first with the greatest validation accuracy"


class ScaledOptions(MethodOptions):
    """Options of the rules whose result lies on a line from the common start."""

    scales: tuple[float, ...] = option((1.0,), SCALES, min_length=1)

    @field_validator("scales", mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:
        if isinstance(value, str):
            return value.split(",")
        return (value,) if isinstance(value, int | float) else value


def common_start(judge: MergeContext, name: str) -> ModelState:
    """Where all members began.

    Args:
        judge: of the members.
        name: the rule that asks, for the message.

    Returns:
        The common start.

    Raises:
        CellFailure: they started apart.
    """
    start = judge.initial()
    if start is None:
        raise CellFailure(
            f"{name} needs members with a common start: run it with --init shared, or "
            "merge with --anchor FILE"
        )
    return start


def best_of(states: Sequence[ModelState], judge: MergeContext) -> ModelState:
    """The first of the states with the greatest validation accuracy; a single one unasked."""
    if len(states) == 1:
        return states[0]
    accuracies = [judge.validation_accuracy(state) for state in states]
    known = [-1.0 if math.isnan(accuracy) else accuracy for accuracy in accuracies]
    return states[known.index(max(known))]


def trimmed(delta: Tensor, density: float, layout: Layout, per: Scope) -> Tensor:
    """A change (D,) of which only the largest values by magnitude are left, the rest zero.

    Args:
        delta: (D,), left as it is.
        density: share that is left, of each tensor or of the whole vector; at least one value.
        layout: the tensors.
        per: what the share is of.

    Returns:
        (D,).
    """
    import torch

    whole = [(0, len(delta))]
    parts = whole if per == "model" else [(piece.offset, piece.stop) for piece in layout.slices]
    result = torch.zeros_like(delta)
    for first, stop in parts:
        values = delta[first:stop]
        kept = max(1, int(density * len(values) + 1e-9))  # 0.29 * 100 is 28.999999999999996
        order = values.abs().argsort(descending=True, stable=True)[:kept]
        result[first:stop][order] = values[order]
    return result


def elected(deltas: Tensor, combine: Combination) -> Tensor:
    """Changes (N, K) merged where they agree with the sign of their sum, (K,); zeros never do."""
    sign = (deltas.sum(dim=0) >= 0).to(deltas) * 2 - 1
    agrees = deltas.sign() == sign
    total = (deltas * agrees).sum(dim=0)
    return total / agrees.sum(dim=0).clamp(min=1) if combine == "mean" else total


def joined(deltas: Tensor, combine: Combination) -> Tensor:
    """The sum or the mean (K,) of changes (N, K)."""
    return deltas.sum(dim=0) if combine == "sum" else deltas.mean(dim=0)


class AnchoredRule(MergeRule):
    """Base of the rules theta_0 + lambda f(theta_1 - theta_0, ..., theta_N - theta_0).

    BatchNorm's running statistics are averaged over the members; ``reestimated`` is the same
    network with statistics re-estimated on training images.
    """

    anchored = True
    options: ScaledOptions

    @abstractmethod
    def sparse(self, delta: Tensor, member: int, judge: MergeContext) -> Tensor:
        """What counts of a member's change (D,) since the start, (D,); may be the same tensor."""

    @abstractmethod
    def combined(self, deltas: Tensor) -> Tensor:
        """The merged change (K,) of what counts of the members', (N, K) float64."""

    def merge(self, population: Population, judge: MergeContext) -> dict[str, ModelState]:
        import torch

        from wash_bench.core.population import ModelState
        from wash_bench.merging.columns import precise

        start, average = common_start(judge, self.own_name), judge.average().states[0]
        deltas = [
            self.sparse(member.weights - start.weights, index, judge)
            for index, member in enumerate(judge.members)
        ]
        change = torch.empty_like(start.weights, dtype=precise(start.weights[:0]).dtype)
        for piece in judge.layout.slices:  # tensor by tensor, for the memory of float64
            part = slice(piece.offset, piece.stop)
            change[part] = self.combined(precise(torch.stack([delta[part] for delta in deltas])))
        candidates = [
            ModelState(
                precise(start.weights).add(change, alpha=scale).to(start.weights),
                average.buffers.clone(),
                average.counters.clone(),
            )
            for scale in self.options.scales
        ]
        merged = best_of(candidates, judge)
        models = {self.own_name: merged}
        if judge.layout.buffer_size:
            models["reestimated"] = judge.reestimated(merged)
        return models
