"""Permutations that make one network's units correspond to another's in their weights."""

from collections.abc import Sequence, Set
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from wash_bench.merging.columns import precise
from wash_bench.merging.permutation import Group, Tensors, assignment, identity, permuted

Start = Literal["identity", "forward", "best"]
SWEEPS = 100  # as the published code; some ten are enough


@torch.no_grad()
def match_weights(
    groups: Sequence[Group],
    fixed: Tensors,
    moving: Tensors,
    rng: np.random.Generator,
    start: Start = "best",
) -> list[Tensor]:
    """Permute ``moving`` so that the inner product of its parameters with ``fixed`` is large.

    Coordinate descent: for one group after another, in random order, all other permutations
    held, the best permutation is a linear assignment. It ends when no group improves.

    Args:
        groups: of :func:`wash_bench.merging.unit_graph.permutation_groups`.
        fixed: parameters of the network to be matched, by name.
        moving: parameters of the network that is permuted.
        rng: for the order of the groups.
        start: ``identity``; ``forward``: every group matched once from the input on, by those
            tensors whose other axis is settled; ``best``: both, and what ends higher is taken.

    Returns:
        One permutation for each group.
    """
    names = {axis.tensor for group in groups for axis in group.axes if axis.tensor in fixed}
    fixed = {name: precise(fixed[name]) for name in names}
    moving = {name: precise(moving[name]) for name in names}
    ends = []
    if start != "forward":
        ends.append(_descend(groups, fixed, moving, identity(groups), rng))
    if start != "identity":
        ends.append(_descend(groups, fixed, moving, _forward(groups, fixed, moving), rng))
    heights = [_height(groups, fixed, moving, permutations) for permutations in ends]
    return ends[int(np.argmax(heights))]  # the first one of equals


def _descend(
    groups: Sequence[Group],
    fixed: Tensors,
    moving: Tensors,
    permutations: list[Tensor],
    rng: np.random.Generator,
) -> list[Tensor]:
    for _ in range(SWEEPS):
        progress = False
        for index in rng.permutation(len(groups)):
            gain = _gain(groups, index, fixed, moving, permutations)
            new, rows = assignment(gain), torch.arange(groups[index].size)
            better = (gain[rows, new] - gain[rows, permutations[index]]).sum()
            # Equal permutations are not exchanged: rounding must not move equal networks.
            if better > 1e-9 * gain.abs().max() * groups[index].size:
                permutations[index] = new
                progress = True
        if not progress:
            break
    return permutations


def _gain(
    groups: Sequence[Group],
    index: int,
    fixed: Tensors,
    moving: Tensors,
    permutations: Sequence[Tensor],
    without: frozenset[str] = frozenset(),
) -> Tensor:
    """gain[i, j]: what unit j of ``moving`` adds to the inner product in place i."""
    group = groups[index]
    own = {axis.tensor for axis in group.axes} - without
    others = permuted(
        {name: moving[name] for name in own & moving.keys()}, groups, permutations, index
    )
    total = 0
    for axis in group.axes:
        if axis.tensor in others:
            one = fixed[axis.tensor].movedim(axis.axis, 0).reshape(group.size, -1)
            two = others[axis.tensor].movedim(axis.axis, 0).reshape(group.size, -1)
            total = total + (one @ two.T).cpu()
    if isinstance(total, int):
        return torch.eye(group.size)
    return total


def _forward(groups: Sequence[Group], fixed: Tensors, moving: Tensors) -> list[Tensor]:
    permutations = identity(groups)
    for index in range(len(groups)):
        open_ = {axis.tensor for group in groups[index + 1 :] for axis in group.axes}
        permutations[index] = assignment(
            _gain(groups, index, fixed, moving, permutations, frozenset(open_))
        )
    return permutations


def _height(
    groups: Sequence[Group], fixed: Tensors, moving: Tensors, permutations: Sequence[Tensor]
) -> float:
    tensors = permuted(moving, groups, permutations)
    return sum((fixed[name] * tensor).sum().item() for name, tensor in tensors.items())


def match_many(
    groups: Sequence[Group],
    members: Sequence[Tensors],
    parameters: Set[str],
    rng: np.random.Generator,
    start: Start = "best",
) -> list[dict[str, Tensor]]:
    """MergeMany: match one member after another, in random order, to the mean of the others.

    It ends when no member comes closer to the others' mean.

    Args:
        groups: of :func:`wash_bench.merging.unit_graph.permutation_groups`.
        members: all tensors of each of two or more members, by name.
        parameters: the names of those that are compared.
        rng: for the order of members and groups.
        start: as in :func:`match_weights`.

    Returns:
        The tensors of every member, permuted.
    """
    placed = [dict(member) for member in members]
    for _ in range(SWEEPS):
        progress = False
        for n in rng.permutation(len(placed)):
            others = [member for m, member in enumerate(placed) if m != n]
            mean = {
                name: sum((other[name] for other in others), torch.zeros(())) / len(others)
                for name in parameters
            }
            permutations = match_weights(groups, mean, placed[n], rng, start)
            new = placed[n] | permuted(placed[n], groups, permutations)
            if _distance(mean, new) < _distance(mean, placed[n]) * (1 - 1e-9):
                placed[n], progress = new, True
        if not progress:
            break
    return placed


def _distance(one: Tensors, two: Tensors) -> float:
    return sum((precise(one[name]) - precise(two[name])).square().sum().item() for name in one)
