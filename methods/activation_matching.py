"""Git Re-Basin, matching activations (Ainsworth et al. 2023, arXiv 2209.04836, section 3.1).

As weight matching, but units correspond that react alike: on the same images, the activations of
each layer's units in member 0 and member n are correlated, and the permutation with the largest
sum of correlations is a linear assignment of its own for every layer:

    maximize sum_i corr(z_i^(0), z_pi(i)^(n))

Activations are those behind the nonlinearity, images and positions are samples, networks run on
their BatchNorm statistics on un-augmented training images. Pearson's correlation is that of the
published code (cifar10_vgg_activation_matching.py), and of Li et al. 2016. One pass over the images
collects all layers.

The average of the matched members is REPAIRed as in weight matching: BatchNorm statistics are
re-estimated, which for networks with BatchNorm behind each layer is REPAIR itself;
``activation-matching-raw`` is the average as it is.

Deviations: the published code matches networks without residual streams by activations. The
units of a stream are seen behind every block of a stage, and the correlations of all these places
are added (our choice). Units that never change have no correlation; they keep their places
where they can. ``images`` are a fixed part of the training images, where the code takes all.

Works for VGG and ResNet (basic and bottleneck blocks, squeeze-and-excitation).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from wash_bench.core.method import MethodOptions, option
from wash_bench.core.wrapper import MergeRule

if TYPE_CHECKING:
    from torch import nn

    from wash_bench.core.merge_context import MergeContext
    from wash_bench.core.population import ModelState, Population


class ActivationMatchingOptions(MethodOptions):
    """Settings of activation matching."""

    images: int = option(
        5000, "training images to correlate on, 0 for all (as published)", unit="images", ge=0
    )


class ActivationMatching(MergeRule):
    """Members permuted to correspond in their activations, averaged and repaired."""

    name = "activation-matching"
    rule = "theta = mean of members permuted for the largest correlation of activations; REPAIR"
    paper = "Ainsworth et al. 2023, arXiv 2209.04836"
    when = "members with initial weights of their own, matched by what they react to; VGG, ResNet"
    needs = "training images"
    Options = ActivationMatchingOptions
    options: ActivationMatchingOptions

    def check_network(self, network: nn.Module) -> None:
        from wash_bench.merging.unit_graph import permutation_groups

        super().check_network(network)
        permutation_groups(network)

    def merge(self, population: Population, judge: MergeContext) -> dict[str, ModelState]:
        from wash_bench.core.population import named_views
        from wash_bench.merging.activation_matching import match_activations
        from wash_bench.merging.matched import placed_state, repaired
        from wash_bench.merging.permutation import permuted
        from wash_bench.merging.unit_graph import permutation_groups

        first, *others = judge.members
        network = judge.network(first)
        graph, groups = permutation_groups(network)
        matched = [first]
        for state in others:
            batches = judge.training_batches(self.options.images)
            permutations = match_activations(graph, groups, network, judge.network(state), batches)
            tensors = dict(named_views(judge.layout, state, population.channels_last))
            matched.append(placed_state(population, state, permuted(tensors, groups, permutations)))
        return repaired("activation-matching", matched, judge)
