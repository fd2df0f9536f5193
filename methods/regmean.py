"""RegMean (Jin et al. 2023, arXiv 2212.09849; code bloomberg/dataless-model-merging).

A linear layer of the merged network should answer on each member's data as that member's layer
does. The least-squares problem over all members has a closed solution:

    G_n = X_n^T X_n                        X_n: the inputs of member n's layer, one a row
    W*  = (sum_n G_n)^-1 sum_n G_n W_n

Before that, everything off the Gram matrices' diagonals is multiplied by ``off_diagonal``
(avg_merger.py of the published code). Inputs are collected on un-augmented training images.

Merged by regression: linear layers, and as linear layers on unfolded images 2-D convolutions with
zero padding, group by group. Averaged, as in the paper all that is no linear layer's weight is:
biases, the parameters and statistics of normalization layers, every other parameter (position
and class tokens, layer scales), layers with more than ``max_inputs`` inputs, convolutions
with an own form of padding. ``regmean-reestimated`` is the same network with re-estimated
BatchNorm statistics.

How it maps: the paper merges language models that saw different data; here all members see the
same training images, and the Gram matrices differ as the layers before differ. Convolutions are
our extension (the paper has linear layers only).

Numerics: the sum of Gram matrices is solved in float64 for the deviation from the average, which
leaves directions in which no input ever points at the average; where the matrix is singular a
ridge of at most 1e-6 of its mean diagonal is added, and a layer that even so has no solution is
averaged. Gram matrices of at most 1 GiB are held at a time.

Unverified: ``off_diagonal`` (0.9 is recalled of the paper; published configurations have 0.1 for
RoBERTa and 1 for DistilBERT).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from wash_bench.core.method import MethodOptions, option
from wash_bench.core.wrapper import MergeRule

if TYPE_CHECKING:
    from torch import Tensor

    from wash_bench.core.merge_context import MergeContext
    from wash_bench.core.population import ModelState, Population


class RegMeanOptions(MethodOptions):
    """Settings of RegMean."""

    images: int = option(
        1000,
        "training images for the Gram matrices, 0 for all",
        unit="images",
        unverified="the published configurations count 1000 batches of text",
        ge=0,
    )
    off_diagonal: float = option(
        0.9,
        "factor of the Gram matrices' entries off the diagonal",
        unverified="0.9 is recalled of the paper; published configurations have 0.1 and 1",
        ge=0,
        le=1,
    )
    max_inputs: int = option(
        8192, "layers with more inputs (channels times kernel positions) are averaged", ge=1
    )


class RegMean(MergeRule):
    """Layers merged by regression on their own inputs."""

    name = "regmean"
    rule = "W = (sum_n G_n)^-1 sum_n G_n W_n for each linear layer and unfolded convolution"
    paper = "Jin et al. 2023, arXiv 2212.09849"
    when = "linear layers that should answer as each member's did"
    needs = "training images; a Gram matrix a layer, 1 GiB at a time"
    Options = RegMeanOptions
    options: RegMeanOptions

    def merge(self, population: Population, judge: MergeContext) -> dict[str, ModelState]:
        from wash_bench.core.population import named_views

        merged = judge.average().states[0].clone()
        views = dict(named_views(judge.layout, merged, population.channels_last))
        for name, weight in self._regressions(judge).items():
            views[f"{name}.weight"].copy_(weight.view(views[f"{name}.weight"].shape))
        models = {"regmean": merged}
        if judge.layout.buffer_size:
            models["regmean-reestimated"] = judge.reestimated(merged)
        return models

    def _regressions(self, judge: MergeContext) -> dict[str, Tensor]:
        """The merged weights (groups, outputs, inputs) by layer."""
        from wash_bench.merging.regmean import (
            as_rows,
            gram_matrices,
            packs,
            regression,
            regression_layers,
            scaled,
        )

        options, result = self.options, {}
        average = judge.network(judge.average().states[0])
        means = {
            name: as_rows(average.get_submodule(name)).clone()
            for name in regression_layers(average, options.max_inputs)
        }
        for pack in packs(average, list(means)):
            grams: dict[str, Tensor] = {}
            products: dict[str, Tensor] = {}
            for member in judge.members:
                network = judge.network(member)
                collected = gram_matrices(network, pack, judge.training_batches(options.images))
                for name, gram in collected.items():
                    gram = scaled(gram, options.off_diagonal)
                    apart = (as_rows(network.get_submodule(name)) - means[name]).to(gram.dtype)
                    product = gram @ apart.mT
                    grams[name] = grams[name] + gram if name in grams else gram
                    products[name] = products[name] + product if name in products else product
            for name, gram in grams.items():
                step = regression(gram, products[name])
                if step is not None:
                    result[name] = means[name] + step.mT.to(means[name].dtype)
        return result
