"""Model Stock (Jang et al. 2024, arXiv 2403.19522): the average, pulled towards the common start.

For each layer, with delta_n = theta_n - theta_0 and N members that start from theta_0:

    cos phi = mean over pairs of <delta_n, delta_k> / (||delta_n|| ||delta_k||)
    t       = N cos phi / (1 + (N - 1) cos phi)
    theta*  = t (1/N) sum_n theta_n + (1 - t) theta_0

The members are thought of as noisy points about a centre; the formula gives the point between
their average and the start that is nearest to it. Orthogonal changes (t = 0) are all noise, equal
ones (t = 1) none. A layer is one tensor.

The formula is that of mergekit (arcee-ai/mergekit, model_stock.py), as the authors' code is not
published; the mean over pairs for N > 2 is mergekit's guess too. Choices of the suite: a mean
cosine below 0 counts as 0; a tensor that did not move stays; one member is its own merge.

BatchNorm's running statistics are averaged, for those of the start are constants; ``reestimated``
is the same network with statistics re-estimated on training images, which a mixture with untrained
weights needs.

Deviation: the paper fine-tunes from pretrained weights. From scratch the anchor is the common
random start, which is far away from every trained network: the members need ``--init shared`` or
``--init checkpoint:PATH``.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import TYPE_CHECKING

from wash_bench.core.wrapper import MergeRule
from wash_bench.merging.anchored import common_start

if TYPE_CHECKING:
    from torch import Tensor

    from wash_bench.core.layout import Layout
    from wash_bench.core.merge_context import MergeContext
    from wash_bench.core.population import ModelState, Population


def ratio(deltas: Sequence[Tensor]) -> float:
    """The t of one layer, from the members' changes (K,) since the start."""
    n = len(deltas)
    norms = [delta.norm().item() for delta in deltas]
    if n == 1 or not all(norms):
        return 1.0
    cosines = [
        (deltas[i] @ deltas[j]).item() / (norms[i] * norms[j]) for i, j in combinations(range(n), 2)
    ]
    cosine = min(max(sum(cosines) / len(cosines), 0.0), 1.0)
    return n * cosine / (1 + (n - 1) * cosine)


def model_stock(states: Sequence[ModelState], start: ModelState, layout: Layout) -> ModelState:
    """Merge states that began at ``start``; a new state."""
    merged = type(start).mean(states)
    for piece in layout.slices:
        part = slice(piece.offset, piece.stop)
        anchor = start.weights[part]
        t = ratio([state.weights[part] - anchor for state in states])
        merged.weights[part].lerp_(anchor, 1 - t)
    return merged


class ModelStock(MergeRule):
    """The average of each layer, pulled towards the common start by the members' disagreement."""

    name = "model-stock"
    rule = "theta* = t mean + (1 - t) theta_0, t = N cos/(1 + (N - 1) cos), for each layer"
    paper = "Jang et al. 2024, arXiv 2403.19522"
    when = "few fine-tunings of one checkpoint"
    needs = "a common start"
    anchored = True

    def merge(self, population: Population, judge: MergeContext) -> dict[str, ModelState]:
        start = common_start(judge, self.own_name)
        merged = model_stock(judge.members, start, population.layout)
        models = {self.own_name: merged}
        if population.layout.buffer_size:
            models["reestimated"] = judge.reestimated(merged)
        return models
