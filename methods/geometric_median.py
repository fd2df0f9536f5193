"""Geometric median of the members, by smoothed Weiszfeld steps (RFA, arXiv 1912.13445).

    theta* = argmin_m sum_n ||theta_n - m||
    from the mean on:  c_n = 1/max(nu, ||theta_n - m||),   m <- sum_n c_n theta_n / sum_n c_n

The median of whole vectors moves boundedly as long as fewer than half of the members are spoiled,
and a member that is far away gets a small coefficient in all of its coordinates. ``per = "layer"``
takes the median of each layer by itself, so that a member spoiled in one layer serves in others.

BatchNorm's running statistics get the coefficients of the weights; per layer, each of their
tensors has a median of its own. Integer buffers are the largest ones.

Evidence: the step, nu = 1e-5 and the start at the mean are those of the RFA code (krishnap25/RFA,
models/model.py, geometric_median_update), which takes 4 steps, or fewer where the summed distance
falls by less than a millionth. Deviations: here the steps go on until the coefficients rest, since
a far member leaves only slowly; all members weigh alike; the members are combined once, at the
end, not in each round of a training.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from wash_bench.core.method import option
from wash_bench.merging.robust import RobustOptions, RobustRule

if TYPE_CHECKING:
    from torch import Tensor

    from wash_bench.core.layout import Layout
    from wash_bench.core.population import ModelState


class GeometricMedianOptions(RobustOptions):
    """Settings of the geometric median."""

    per: Literal["model", "layer"] = option(
        "model", "one median of the whole weight vectors, or one of each layer's weights and biases"
    )
    smoothing: float = option(1e-5, "nu, the least distance that is divided by", gt=0)
    iterations: int = option(100, "Weiszfeld steps at most", unit="steps", ge=1)


class GeometricMedian(RobustRule):
    """The point with the least summed distance to the members."""

    name = "geometric-median"
    rule = "theta* = argmin_m sum_n ||theta_n - m||"
    paper = "Pillutla et al. 2019, arXiv 1912.13445"
    when = "fewer than half of the members are spoiled, and which is not known"
    needs = ""
    Options = GeometricMedianOptions
    options: GeometricMedianOptions

    def coefficients(self, vectors: Sequence[Tensor]) -> list[float]:
        """c_1..c_N of the vectors' geometric median."""
        from wash_bench.merging.weiszfeld import squared_distances, weiszfeld

        squared = squared_distances(vectors)
        return weiszfeld(squared, self.options.iterations, self.options.smoothing)

    def combine(self, states: Sequence[ModelState], layout: Layout) -> ModelState:
        mean, combine = type(states[0]).mean(states), type(states[0]).combine
        if self.options.per == "model":
            shares = self.coefficients([state.weights for state in states])
            whole = combine(states, shares)
            return type(whole)(whole.weights, whole.buffers, mean.counters)
        for start, stop in _layers(layout):
            self._median_([state.weights[start:stop] for state in states], mean.weights[start:stop])
        for piece in layout.buffers:
            part = slice(piece.offset, piece.stop)
            self._median_([state.buffers[part] for state in states], mean.buffers[part])
        return mean

    def _median_(self, vectors: Sequence[Tensor], result: Tensor) -> None:
        import torch

        from wash_bench.merging.columns import precise

        shares = self.coefficients(vectors)
        parts = (c * precise(v) for c, v in zip(shares, vectors, strict=True))
        result.copy_(sum(parts, torch.zeros(())))


def _layers(layout: Layout) -> list[tuple[int, int]]:
    """First and last coordinate of each layer; a module's tensors lie side by side."""
    spans: dict[int, tuple[int, int]] = {}
    for piece in layout.slices:
        start, _ = spans.get(piece.leaf_module, (piece.offset, 0))
        spans[piece.leaf_module] = (start, piece.stop)
    return list(spans.values())
