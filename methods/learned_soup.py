"""Learned soup (Wortsman et al. 2022, arXiv 2203.05482, appendix I; code learned_bylayer.py).

The members' coefficients are learned by gradient descent on held-out images:

    s_l = softmax(a_l) over the N members,    theta(a)_l = sum_n s_l,n theta_n,l
    min over a, beta of the cross-entropy of beta f(x; theta(a)) on the validation split

with one a for all tensors (``per = "model"``) or an a_l for each tensor l (``per = "layer"``).
All coefficients start at 1/N, the uniform soup, and the inverse temperature beta at 1. AdamW
without weight decay; lr 0.05, 5 epochs and batches of 256 are the published code's (mlfoundations/
model-soups, commit 6dce4d2), which also notes that both may want tuning.

BatchNorm's running statistics are mixed like the weights, each of their tensors with its own
coefficients per layer. Their gradient is exact: for it the statistics are folded into the affine
parameters, since torch's BatchNorm passes no gradient to its statistics. (Layers without affine
parameters are not folded, and the coefficients of their statistics stay 1/N per layer.) Integer
buffers are the largest ones.

Deviations: beta is learned and then left out, as it changes no prediction's order and the
delivered network must be one of the architecture. A validation split above 1 GiB keeps its order
instead of being shuffled. The held-out images are not augmented. The original soups fine-tunings
of one pretrained network without BatchNorm.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Literal

from wash_bench.core.method import MethodOptions, option
from wash_bench.core.wrapper import MergeRule
from wash_bench.seeds import torch_stream

if TYPE_CHECKING:
    from torch import Tensor, nn

    from wash_bench.core.layout import Slice
    from wash_bench.core.merge_context import MergeContext
    from wash_bench.core.population import ModelState, Population

KEPT_BYTES = 2**30  # validation images that are held in memory and shuffled


class LearnedSoupOptions(MethodOptions):
    """Settings of the learned soup."""

    per: Literal["layer", "model"] = option(
        "layer", "coefficients of each tensor, or one set for the whole network"
    )
    lr: float = option(0.05, "learning rate of the coefficients (AdamW)", gt=0)
    epochs: int = option(
        5, "passes over the validation split; 0 is the uniform soup", unit="epochs", ge=0
    )
    batch_size: int = option(256, "images a step", unit="images", ge=1)


class LearnedSoup(MergeRule):
    """The mixture of the members that validation data asks for."""

    name = "learned-soup"
    rule = "theta* = sum_n softmax(a)_n theta_n, a by gradient descent on the validation loss"
    paper = "Wortsman et al. 2022, arXiv 2203.05482"
    when = "members of unequal worth, and a validation split to learn it from"
    needs = "a validation split; gradients through the mixed network"
    Options = LearnedSoupOptions
    options: LearnedSoupOptions

    def merge(self, population: Population, judge: MergeContext) -> ModelState:
        import torch
        from torch.func import functional_call
        from torch.nn.functional import cross_entropy

        from wash_bench.core.population import named_views

        soup = Mixture(judge.members, population, each=self.options.per == "layer")
        network = judge.network(judge.members[0])
        beta = torch.ones((), device=soup.raw.device, requires_grad=True)
        optimizer = torch.optim.AdamW([soup.raw, beta], lr=self.options.lr, weight_decay=0)
        for images, labels in self.batches(judge):
            views = dict(named_views(population.layout, soup.state(), population.channels_last))
            logits = functional_call(network, fold(network, views), (images,))
            optimizer.zero_grad()
            cross_entropy(beta * logits, labels).backward()
            optimizer.step()
        return soup.state(final=True)

    def batches(self, judge: MergeContext) -> Iterator[tuple[Tensor, Tensor]]:
        """Validation images and labels, in a new order in each epoch."""
        import torch

        size = self.options.batch_size
        kept = _up_to(KEPT_BYTES, judge.validation_batches(size))
        for epoch in range(self.options.epochs):
            if not kept:
                yield from judge.validation_batches(size)
                continue
            images, labels = (torch.cat(part) for part in zip(*kept, strict=True))
            kept = [(images, labels)]
            stream = torch_stream(judge.seed, "learned-soup", epoch)
            order = torch.randperm(len(labels), generator=stream).to(labels.device)
            for chosen in order.split(size):
                yield images[chosen], labels[chosen]


def _up_to(limit: int, batches: Iterator[tuple[Tensor, Tensor]]) -> list[tuple[Tensor, Tensor]]:
    """The batches, or none if their images take more than ``limit`` bytes."""
    kept = []
    for images, labels in batches:
        kept.append((images, labels))
        limit -= images.nbytes
        if limit < 0:
            return []
    return kept


class Mixture:
    """A state that is a function of coefficients.

    Args:
        members: the N states that are mixed.
        population: whose layout they have.
        each: coefficients of their own for each tensor.

    Attributes:
        raw: (R, N), the coefficients before the softmax; R is the number of tensors, or 1.
    """

    def __init__(self, members: Sequence[ModelState], population: Population, each: bool) -> None:
        import torch

        self.weights = torch.stack([member.weights for member in members])
        self.buffers = torch.stack([member.buffers for member in members])
        self.uniform = type(members[0]).mean(members)
        layout = population.layout
        self.parts = ((self.weights, layout.slices), (self.buffers, layout.buffers))
        self.tensors = len(layout.slices) + len(layout.buffers)
        self.raw = torch.zeros(
            self.tensors if each else 1,
            len(members),
            device=self.weights.device,
            requires_grad=True,
        )

    def state(self, final: bool = False) -> ModelState:
        """The mixture; with ``final`` summed in float64 and without its history."""
        from wash_bench.merging.columns import precise

        shares = self.raw.softmax(dim=1)
        if final:
            shares = precise(shares.detach())
        rows = iter(shares.expand(self.tensors, -1))
        weights, buffers = (self._mix(values, pieces, rows) for values, pieces in self.parts)
        return type(self.uniform)(weights, buffers, self.uniform.counters)

    def _mix(self, members: Tensor, pieces: Sequence[Slice], rows: Iterator[Tensor]) -> Tensor:
        import torch

        if not pieces:
            return members[0]
        parts = [(members[:, piece.offset : piece.stop], next(rows)) for piece in pieces]
        mixed = torch.cat([share @ values.to(share.dtype) for values, share in parts])
        return mixed.to(members.dtype)


def fold(network: nn.Module, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Tensors of the same function with BatchNorm's statistics inside its affine parameters."""
    # (x - mean) / sqrt(var + eps) w + b is x w' + (b - mean w') with w' = w / sqrt(var + eps).
    from torch.nn.modules.batchnorm import _BatchNorm

    result = dict(tensors)
    for prefix, layer in network.named_modules():
        if not isinstance(layer, _BatchNorm):
            continue
        names = [
            f"{prefix}.{part}".removeprefix(".")
            for part in ("weight", "bias", "running_mean", "running_var")
        ]
        if not all(name in tensors for name in names):
            result |= {name: tensors[name].detach() for name in names if name in tensors}
            continue
        weight, bias, mean, var = (tensors[name] for name in names)
        scale = weight * (var + layer.eps).rsqrt()
        neutral = (mean.new_zeros(mean.shape), var.new_full(var.shape, 1 - layer.eps))
        result |= dict(zip(names, (scale, bias - mean * scale, *neutral), strict=True))
    return result
