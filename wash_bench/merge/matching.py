"""Permutations that make one network's units correspond to another's."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor, fx, nn

from wash_bench.core.population import ModelState, float64_for, named_views
from wash_bench.merge.permutation import Group, permuted

if TYPE_CHECKING:
    from wash_bench.core.judge import Judge
    from wash_bench.core.population import Population

Tensors = Mapping[str, Tensor]
Start = Literal["identity", "forward", "best"]
SWEEPS = 100  # as the published code; some ten are enough
TIE = 1e-6  # a unit keeps its place unless another has a correlation higher by this


def identity(groups: Sequence[Group]) -> list[Tensor]:
    return [torch.arange(group.size) for group in groups]


def assignment(gain: Tensor) -> Tensor:
    """The permutation p with the largest sum of gain[i, p(i)]; gain is (n, n)."""
    _, columns = linear_sum_assignment(gain.cpu().numpy(), maximize=True)
    return torch.from_numpy(np.ascontiguousarray(columns))


# Weights ---------------------------------------------------------------------------------------


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
        groups: of :func:`wash_bench.merge.permutation.permutation_groups`.
        fixed: parameters of the network to be matched, by name.
        moving: parameters of the network that is permuted.
        rng: for the order of the groups.
        start: ``identity``; ``forward``: every group matched once from the input on, by those
            tensors whose other axis is settled; ``best``: both, and what ends higher is taken.

    Returns:
        One permutation for each group.
    """
    names = {axis.tensor for group in groups for axis in group.axes if axis.tensor in fixed}
    fixed = {name: _exact(fixed[name]) for name in names}
    moving = {name: _exact(moving[name]) for name in names}
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
        groups: of :func:`wash_bench.merge.permutation.permutation_groups`.
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
            mean = {name: sum(o[name] for o in others) / len(others) for name in parameters}
            permutations = match_weights(groups, mean, placed[n], rng, start)
            new = placed[n] | permuted(placed[n], groups, permutations)
            if _distance(mean, new) < _distance(mean, placed[n]) * (1 - 1e-9):
                placed[n], progress = new, True
        if not progress:
            break
    return placed


def _distance(one: Tensors, two: Tensors) -> float:
    return sum((_exact(one[name]) - _exact(two[name])).square().sum().item() for name in one)


def _exact(tensor: Tensor) -> Tensor:
    return tensor.to(float64_for(tensor))


# Activations -----------------------------------------------------------------------------------


@torch.no_grad()
def match_activations(
    graph: fx.Graph,
    groups: Sequence[Group],
    fixed: nn.Module,
    moving: nn.Module,
    batches: Iterable[tuple[Tensor, Tensor]],
) -> list[Tensor]:
    """Permute ``moving`` so that corresponding units' activations correlate.

    One pass over the images serves all groups. The units of a residual stream are seen at
    several places; the correlations of all of them are added.

    Args:
        graph: the networks' graph.
        groups: of :func:`wash_bench.merge.permutation.permutation_groups`.
        fixed: the network to be matched, in eval mode.
        moving: the network that is permuted, in eval mode.
        batches: images with labels, of which only the images are used.

    Returns:
        One permutation for each group. Units that are never active keep their places if they
        can.
    """
    sizes = {tap: group.size for group in groups for tap in group.taps}
    moments = {tap: _Moments() for tap in sizes}
    first, second = _Taps(fixed, graph, sizes), _Taps(moving, graph, sizes)
    for images, _ in batches:
        one, two = first.activations(images), second.activations(images)
        for tap, moment in moments.items():
            moment.add(one[tap], two[tap])
    result = []
    for group in groups:
        gain = TIE * torch.eye(group.size, dtype=torch.float64)
        for tap in group.taps:
            gain += moments[tap].correlation().cpu()
        result.append(assignment(gain))
    return result


class _Moments:
    """First and second moments of two networks' units, summed over batches."""

    def __init__(self) -> None:
        self.sums: list[Any] = [0, 0, 0, 0, 0]
        self.count = 0

    def add(self, one: Tensor, two: Tensor) -> None:
        """Take in activations (units, samples)."""
        dtype = float64_for(one)
        parts = (one.sum(1), two.sum(1), one.square().sum(1), two.square().sum(1), one @ two.T)
        self.sums = [total + part.to(dtype) for total, part in zip(self.sums, parts, strict=True)]
        self.count += one.shape[1]

    def correlation(self) -> Tensor:
        """Pearson's correlation (units, units); 0 for a unit that never changes."""
        a, b, aa, bb, ab = (total / self.count for total in self.sums)
        # What rounding leaves of a variance that is zero counts as zero.
        sa, sb = ((s - m * m).clamp(min=0).sqrt() for s, m in ((aa, a), (bb, b)))
        sa, sb = (
            torch.where(s > 1e-6 * (q.sqrt() + 1e-12), s, torch.inf)
            for s, q in ((sa, aa), (sb, bb))
        )
        return (ab - torch.outer(a, b)) / torch.outer(sa, sb)


class _Taps(fx.Interpreter):
    """Runs a network node by node and keeps what the taps give."""

    def __init__(self, network: nn.Module, graph: fx.Graph, sizes: Mapping[str, int]) -> None:
        super().__init__(fx.GraphModule(network, graph))
        self.sizes = sizes
        self.seen: dict[str, Tensor] = {}

    def activations(self, images: Tensor) -> dict[str, Tensor]:
        """(units, samples) of each tap: images and positions are samples."""
        self.seen = {}
        self.run(images)
        return self.seen

    def run_node(self, n: fx.Node) -> Any:
        result = super().run_node(n)
        if n.name in self.sizes:
            size = self.sizes[n.name]
            rows = result.float().reshape(len(result), size, -1).transpose(0, 1)
            # A copy: a later layer may work in place.
            self.seen[n.name] = rows.reshape(size, -1).clone()
        return result


# Populations -----------------------------------------------------------------------------------


def placed_state(population: Population, state: ModelState, tensors: Tensors) -> ModelState:
    """A copy of a state with some of its tensors replaced."""
    result = state.clone()
    for name, view in named_views(population.layout, result, population.channels_last):
        if name in tensors:
            view.copy_(tensors[name])
    return result


def repaired(name: str, states: Sequence[ModelState], judge: Judge) -> dict[str, ModelState]:
    """The average of matched members, with BatchNorm re-estimated and, as ``NAME-raw``, without."""
    if len(states) == 1:  # nothing was merged, nothing is to be repaired
        return {name: states[0]}
    raw = ModelState.mean(states)
    if not judge.layout.buffer_size:
        return {name: raw}
    return {name: judge.reestimated(raw), f"{name}-raw": raw}
