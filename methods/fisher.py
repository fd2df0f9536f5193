"""Fisher-weighted averaging (Matena and Raffel 2022, arXiv 2111.09832; code mmatena/model_merging).

Each member's posterior is approximated by a Gaussian around its weights whose precision is the
diagonal Fisher information. The merged weights maximize the sum of the members' log posteriors:

    F_n    = mean over images of E_{y ~ p_n(y|x)} [ (d log p_n(y|x) / d theta_n)^2 ]
    theta* = sum_n lambda_n F_n theta_n / sum_n lambda_n F_n        for each coordinate

The weights lambda are uniform. The images are un-augmented training images, every image has its
own gradient, and BatchNorm runs on its statistics. ``labels`` says where y comes from: ``model``
is the exact expectation over the member's own prediction, as in the published code (fisher.py),
at the price of one backward pass for every class; ``sample`` one draw from it; ``true`` the given
label (the empirical Fisher).

How it maps: the paper merges fine-tunings of one pretrained language model, here they are the
members of any population. BatchNorm running statistics have no gradient and are averaged
uniformly; ``fisher-reestimated`` is the same network with re-estimated statistics.

Deviations: the published code floors the Fisher at 1e-6 for one of the models, its target, and
searches lambda on a grid. Members are equals here, and the gradients of fitted networks can all
be smaller than any fixed number, so every member has a floor, relative to its mean Fisher. That
each Fisher is divided by its L2 norm is the published code's default (merging.py).

Unverified: the paper's own choice of images, floor and normalization; those of the code are cited.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal

from wash_bench.core.method import MethodOptions, option
from wash_bench.core.wrapper import MergeRule

if TYPE_CHECKING:
    from torch import Tensor

    from wash_bench.core.merge_context import MergeContext
    from wash_bench.core.population import ModelState, Population


class FisherOptions(MethodOptions):
    """Settings of Fisher-weighted averaging."""

    images: int = option(
        1000,
        "training images for the Fisher, 0 for all (the published script: 4096)",
        unit="images",
        unverified="the paper's number for image classifiers is not known",
        ge=0,
    )
    labels: Literal["model", "sample", "true"] = option(
        "model",
        "model: exact expectation over the member's prediction; sample: one draw; true: the label",
    )
    floor: float = option(
        1e-6,
        "least Fisher of a coordinate, as a share of the member's mean Fisher",
        unverified="the published code's 1e-6 is absolute and for one model only",
        ge=0,
    )
    normalize: bool = option(True, "divide each member's Fisher by its L2 norm")


class Fisher(MergeRule):
    """Average weighted by each member's diagonal Fisher information."""

    name = "fisher"
    rule = "theta = sum_n F_n theta_n / sum_n F_n with the diagonal Fisher of training images"
    paper = "Matena and Raffel 2022, arXiv 2111.09832"
    when = "members whose weights matter unequally, as fine-tunings on different data"
    needs = "training images, and a backward pass a class for each (labels=sample: one)"
    Options = FisherOptions
    options: FisherOptions

    def merge(self, population: Population, judge: MergeContext) -> dict[str, ModelState]:
        from wash_bench.core.population import ModelState
        from wash_bench.merging.fisher import fisher_average

        options, members = self.options, judge.members
        weights = fisher_average(
            [member.weights for member in members],
            self._fishers(population, judge),
            options.floor,
            options.normalize,
        )
        average = judge.average().states[0]
        merged = ModelState(weights, average.buffers, average.counters)
        models = {"fisher": merged}
        if judge.layout.buffer_size:
            models["fisher-reestimated"] = judge.reestimated(merged)
        return models

    def _fishers(self, population: Population, judge: MergeContext) -> Iterator[Tensor]:
        """Each member's Fisher as a row (D,), in the order of the row's coordinates."""
        import torch

        from wash_bench.core.population import view_of
        from wash_bench.merging.fisher import diagonal_fisher
        from wash_bench.seeds import torch_stream

        for n, member in enumerate(judge.members):
            fisher = diagonal_fisher(
                judge.network(member, gradients=True),
                judge.training_batches(self.options.images),
                self.options.labels,
                torch_stream(judge.seed, "fisher", n),
            )
            dtype = next(iter(fisher.values())).dtype
            row = torch.zeros_like(member.weights, dtype=dtype)
            for piece in judge.layout.slices:
                view_of(row, piece, population.channels_last).copy_(fisher[piece.name])
            yield row
