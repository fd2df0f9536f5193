"""Rules for one coordinate, applied to every coordinate of a population."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from wash_bench.core.population import ModelState, float64_for

CHUNK = 2**20  # coordinates at a time, which bounds the memory of the float64 copies


@torch.no_grad()
def columnwise(states: Sequence[ModelState], rule: Callable[[Tensor], Tensor]) -> ModelState:
    """Merge the weights and the float buffers coordinate by coordinate.

    Args:
        states: N members.
        rule: gives (K,) from K columns (N, K), float64; the rows come sorted in every column, so
            that no rule can depend on the members' order.

    Returns:
        A new state. A rule that stays between the smallest and the largest of its values keeps
        running variances positive. Integer buffers are the largest ones, as in a mean.
    """
    return ModelState(
        _columns([state.weights for state in states], rule),
        _columns([state.buffers for state in states], rule),
        torch.stack([state.counters for state in states]).max(dim=0).values,
    )


def _columns(vectors: Sequence[Tensor], rule: Callable[[Tensor], Tensor]) -> Tensor:
    result = torch.empty_like(vectors[0])
    for start in range(0, len(result), CHUNK):
        part = slice(start, start + CHUNK)
        rows = torch.stack([vector[part] for vector in vectors]).sort(dim=0).values
        result[part] = rule(precise(rows))
    return result


def precise(tensor: Tensor) -> Tensor:
    """The tensor in float64, or in float32 on a device that has none."""
    return tensor.to(float64_for(tensor))
