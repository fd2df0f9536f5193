"""Permutations that make one network's units correspond to another's in their activations."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn

from wash_bench.core.population import float64_for
from wash_bench.merging.permutation import Group, assignment

TIE = 1e-6  # a unit keeps its place unless another has a correlation higher by this


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
        groups: of :func:`wash_bench.merging.unit_graph.permutation_groups`.
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
