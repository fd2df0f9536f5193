"""Optimal average of a model with the others' (after Grimberg et al. 2021, arXiv 2110.12946).

The paper estimates a scalar: of an own unbiased estimate with variance s2 and another's with
variance t2 and bias b, the average (1 - alpha) own + alpha other has the least expected squared
error at

    alpha* = s2 / (s2 + t2 + b2)

which is positive wherever s2 is. **What follows is this suite's extension to networks, not the
paper's.** Own is the member with the highest validation accuracy, the other is the mean m of the
N - 1 others, and each tensor of K values has an alpha of its own, estimated from the population:

    s2 = mean over the tensor of the sample variance of the others
    t2 = s2 / (N - 1)
    b2 = max(0, ||own - m||^2 / K - s2 - t2)

With nothing but chance between the members b2 is near 0 and the merge is nearly the uniform soup;
a member that stands apart from the rest keeps its own values. Two members, of which the others
have no variance, take that of both and meet in the middle. Equal values stay (alpha = 0).

BatchNorm's running statistics get the same rule, one alpha for each of their tensors; integer
buffers are the best member's. The formula follows from the definition and the paper's abstract;
the paper's own text was not at hand.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from wash_bench.core.wrapper import MergeRule

if TYPE_CHECKING:
    from torch import Tensor

    from wash_bench.core.layout import Layout
    from wash_bench.core.merge_context import MergeContext
    from wash_bench.core.population import ModelState, Population


def optimal_tensor(own: Tensor, others: Tensor) -> Tensor:
    """(1 - alpha*) own (K,) + alpha* mean of the others (N - 1, K); there is at least one."""
    n = len(others)
    mean = others.mean(dim=0)
    squared = (own - mean).square().mean().item()
    # Two values x, y have the sample variance (x - y)^2 / 2.
    s2 = others.var(dim=0).mean().item() if n > 1 else squared / 2
    t2 = s2 / n
    b2 = max(0.0, squared - s2 - t2)
    alpha = s2 / (s2 + t2 + b2) if s2 > 0 else 0.0
    return own.lerp(mean, alpha)


def optimal_average(states: Sequence[ModelState], best: int, layout: Layout) -> ModelState:
    """Average ``states[best]`` with the mean of the others, tensor by tensor; a new state."""
    from wash_bench.merging.columns import precise

    merged = states[best].clone()
    others = [state for index, state in enumerate(states) if index != best]
    if not others:
        return merged
    for pieces, rows in ((layout.slices, "weights"), (layout.buffers, "buffers")):
        result = getattr(merged, rows)
        for piece in pieces:
            part = slice(piece.offset, piece.stop)
            rest = result.new_empty(len(others), piece.size)
            for row, state in zip(rest, others, strict=True):
                row.copy_(getattr(state, rows)[part])
            result[part] = optimal_tensor(precise(result[part]), precise(rest)).to(result)
    return merged


class OptimalAverage(MergeRule):
    """The best member and the mean of the others, weighted by variance and bias."""

    name = "optimal-average"
    rule = "theta* = (1 - a) best + a mean of others, a = s2/(s2 + t2 + b2), for each tensor"
    paper = "an extension of Grimberg et al. 2021, arXiv 2110.12946"
    when = "one member that stands apart from the rest; this suite's extension of an estimator"
    needs = "a validation split"

    def merge(self, population: Population, judge: MergeContext) -> ModelState:
        members = judge.members
        accuracies = [judge.validation_accuracy(member) for member in members]
        return optimal_average(members, accuracies.index(max(accuracies)), population.layout)
