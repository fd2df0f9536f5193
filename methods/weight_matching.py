"""Git Re-Basin, matching weights (Ainsworth et al. 2023, arXiv 2209.04836, section 3.2).

Permuting the units of a layer, and the next layer's inputs with them, leaves a network's function
as it is. Each member is permuted to lie close to the others before the members are averaged:

    maximize <theta_0, pi(theta_n)> over the permutations pi of all layers' units

by coordinate descent: layers in random order; with the other layers' permutations held, the best
permutation of one layer is a linear assignment; until no layer improves. Units that a residual
stream adds to one another are permuted together. With ``reference = "first"`` every member is
matched to member 0; ``"all"`` is the paper's MergeMany: members in random order, each matched to
the mean of the others, until none comes closer. The inner product is that of the parameters,
those of BatchNorm included; running statistics move with their units.

The average is then REPAIRed (Jordan et al. 2023, arXiv 2211.08403): averaged units vary less
than the members' own. Where BatchNorm follows the layer, REPAIR's rescaling is absorbed by it, and
what is left is to re-estimate the running statistics on augmented training images. Networks
without BatchNorm are averaged without repair. ``weight-matching-raw`` is the average as it is,
statistics averaged.

Deviations: coordinate descent ends in the next local optimum. The published code starts from
the identity; with ``start = "best"`` a second start is tried, in which each layer is
matched once from the input on, and what ends with the larger inner product is taken.

Works for VGG and ResNet (basic and bottleneck blocks, squeeze-and-excitation), which the paper
has; transformers have other symmetries, grouped convolutions fewer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from wash_bench.core.method import MethodOptions, option
from wash_bench.core.wrapper import MergeRule

if TYPE_CHECKING:
    from torch import nn

    from wash_bench.core.merge_context import MergeContext
    from wash_bench.core.population import ModelState, Population


class WeightMatchingOptions(MethodOptions):
    """Settings of weight matching."""

    reference: Literal["first", "all"] = option(
        "first", "first: match every member to member 0; all: each to the others' mean (MergeMany)"
    )
    start: Literal["best", "identity", "forward"] = option(
        "best",
        "identity: as published; forward: layers matched once from the input on; best: the better",
    )


class WeightMatching(MergeRule):
    """Members permuted to correspond in their weights, averaged and repaired."""

    name = "weight-matching"
    rule = "theta = mean of members permuted for the largest inner product of weights; REPAIR"
    paper = "Ainsworth et al. 2023, arXiv 2209.04836"
    when = "members with initial weights of their own, matched without data; VGG, ResNet"
    needs = "training images for BatchNorm"
    Options = WeightMatchingOptions
    options: WeightMatchingOptions

    def check_network(self, network: nn.Module) -> None:
        from wash_bench.merging.unit_graph import permutation_groups

        super().check_network(network)
        permutation_groups(network)

    def merge(self, population: Population, judge: MergeContext) -> dict[str, ModelState]:
        from wash_bench.core.population import named_views
        from wash_bench.merging.matched import placed_state, repaired
        from wash_bench.merging.permutation import permuted
        from wash_bench.merging.unit_graph import permutation_groups
        from wash_bench.merging.weight_matching import match_many, match_weights
        from wash_bench.seeds import numpy_stream

        options, states = self.options, judge.members
        _, groups = permutation_groups(judge.network(states[0]))
        rng = numpy_stream(judge.seed, "matching")
        parameters = {piece.name for piece in judge.layout.slices}
        members = [
            dict(named_views(judge.layout, state, population.channels_last)) for state in states
        ]
        if options.reference == "all" and len(members) > 1:
            placed = match_many(groups, members, parameters, rng, options.start)
        else:
            first = {name: members[0][name] for name in parameters}
            placed = [members[0]]
            for member in members[1:]:
                permutations = match_weights(groups, first, member, rng, options.start)
                placed.append(permuted(member, groups, permutations))
        matched = [
            placed_state(population, state, tensors)
            for state, tensors in zip(states, placed, strict=True)
        ]
        return repaired("weight-matching", matched, judge)
