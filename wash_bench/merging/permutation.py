"""Groups of units that are permuted together, and their permutations.

A unit is a channel of a feature map or a feature of a vector.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

Tensors = Mapping[str, Tensor]


@dataclass(frozen=True)
class Axis:
    """One axis that a group's units lie on.

    Attributes:
        tensor: the name of a parameter or buffer.
        axis: its axis.
        block: neighbours on it that belong to one unit: more than one where feature maps were
            flattened with all their positions.
    """

    tensor: str
    axis: int
    block: int = 1


@dataclass(frozen=True)
class Group:
    """Units that are permuted together.

    Attributes:
        size: how many units.
        axes: where they lie.
        taps: the graph's nodes that give their activations.
    """

    size: int
    axes: tuple[Axis, ...]
    taps: tuple[str, ...]


@torch.no_grad()
def permuted(
    tensors: Tensors,
    groups: Sequence[Group],
    permutations: Sequence[Tensor],
    but: int | None = None,
) -> dict[str, Tensor]:
    """Put unit ``permutation[i]`` in place i, in all tensors that a group lies on.

    Args:
        tensors: tensors under the network's own names; those of no group are left out.
        groups: the groups.
        permutations: one (size,) for each group.
        but: the index of a group that stays as it is.

    Returns:
        Copies of the tensors that lie in groups.
    """
    result: dict[str, Tensor] = {}
    for index, (group, permutation) in enumerate(zip(groups, permutations, strict=True)):
        for axis in group.axes:
            if axis.tensor not in tensors:
                continue
            tensor = result.get(axis.tensor, tensors[axis.tensor])
            if index != but:
                order = permutation.to(tensor.device)
                if axis.block > 1:
                    block = torch.arange(axis.block, device=tensor.device)
                    order = (order[:, None] * axis.block + block).flatten()
                tensor = tensor.index_select(axis.axis, order)
            result[axis.tensor] = tensor
    return result


def identity(groups: Sequence[Group]) -> list[Tensor]:
    """The permutations that leave every unit in its place."""
    return [torch.arange(group.size) for group in groups]


def assignment(gain: Tensor) -> Tensor:
    """The permutation p with the largest sum of gain[i, p(i)]; gain is (n, n)."""
    _, columns = linear_sum_assignment(gain.cpu().numpy(), maximize=True)
    return torch.from_numpy(np.ascontiguousarray(columns))
