"""States of members whose units correspond, and their average."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from wash_bench.core.population import ModelState, named_views
from wash_bench.merging.permutation import Tensors

if TYPE_CHECKING:
    from wash_bench.core.merge_context import MergeContext
    from wash_bench.core.population import Population


def placed_state(population: Population, state: ModelState, tensors: Tensors) -> ModelState:
    """A copy of a state with some of its tensors replaced."""
    result = state.clone()
    for name, view in named_views(population.layout, result, population.channels_last):
        if name in tensors:
            view.copy_(tensors[name])
    return result


def repaired(name: str, states: Sequence[ModelState], judge: MergeContext) -> dict[str, ModelState]:
    """The average of matched members, with BatchNorm re-estimated and, as ``NAME-raw``, without."""
    if len(states) == 1:  # nothing was merged, nothing is to be repaired
        return {name: states[0]}
    raw = ModelState.mean(states)
    if not judge.layout.buffer_size:
        return {name: raw}
    return {name: judge.reestimated(raw), f"{name}-raw": raw}
