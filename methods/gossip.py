"""Gossip averaging: members average with neighbours only; there is no collective.

After every T-th step member n takes the uniform mean of itself and its neighbours:

    ring:   theta_n <- (theta_{n-1} + theta_n + theta_{n+1}) / 3     (N = 2: the pair's mean)
    pairs:  theta_n <- (theta_n + theta_m) / 2     (a random matching at every event; if N is odd,
            a random member is left out)
    alternating:  the same with one neighbour on a ring, now with the one, now with the other
    exponential:  the same with member n XOR 2^k, k = 0, 1, ... by turns (who has none, rests)

All keep the population's mean. The ring is decentralized parallel SGD's (Lian et al. 2017, arXiv
1705.09056), random pairs are randomized gossip's (Boyd et al. 2006). The two graphs in which every
member has one partner at a time are those of DSGD-AC's code (dsgd_ac.py). With ``power`` q > 0 a
member moves only a part of the way, as in PAPA, whose power is 1:

    theta_n <- (1 - g) theta_n + g mean,   g = (lr_t / lr_0)^q      lr_t after the scheduler's step

The mean of k uncorrelated networks has weights of 1/k of their variance, which the initialization
had chosen with care (Tian et al. 2024, arXiv 2404.04616). ``variance_correction`` rescales each
tensor w of averaged weights about its mean m, so that its variance is the mean of the variances of
the tensors that were averaged:

    w <- m + (w - m) sqrt( mean_k var(w_k) / var(w) )

BatchNorm's running statistics are averaged like the weights and not rescaled; the optimizer's
state stays. The last step is not averaged: the members end distinct.

Verified: the correction's aim, in the abstract; its form in code that follows the paper's
simulator, which also takes the targets from the received models alone and rescales biases.
Choices of the suite: the own model counts among the inputs; matrices and convolutions only, since
biases and normalization have no variance of initialization; no constant under the root (a tensor
without variance is left as it is). Not verified: the paper's own wording, and how rarely it
exchanges.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from pydantic import model_validator

from wash_bench.core.ledger import CommEvent, charge_fetch
from wash_bench.core.method import CommShape, Method, MethodOptions, option
from wash_bench.core.step_info import StepInfo
from wash_bench.core.topology import alternating_ring, exponential_peers, partners

if TYPE_CHECKING:
    from torch import Tensor

    from wash_bench.core.exchange import Exchange
    from wash_bench.core.layout import Layout
    from wash_bench.core.population import Population


class GossipOptions(MethodOptions):
    """Settings of gossip averaging."""

    topology: Literal["ring", "pairs", "alternating", "exponential"] = option(
        "ring",
        "average with both neighbours on a ring, in random pairs, with one neighbour on a ring by "
        "turns, or with member n XOR 2^k by turns",
    )
    every: int = option(
        10,
        "period of the averages",
        unit="steps",
        unverified="sources differ: every step in decentralized SGD, rarely in gossip learning",
        ge=1,
    )
    variance_correction: bool = option(
        False,
        "rescale averaged weight tensors to the mean variance of those averaged (2404.04616)",
        unverified="its exact form is that of other people's code",
    )
    power: float = option(
        0.0,
        "q: of the way to the average, (lr/lr_0)^q is gone; 0: all of it",
        later=True,
        ge=0,
    )

    @model_validator(mode="after")
    def _whole(self) -> GossipOptions:
        if self.variance_correction and self.power:
            raise ValueError("variance_correction is made for whole averages: leave power at 0")
        return self


class Gossip(Method):
    """Members averaged with their neighbours in a graph, or with random partners."""

    name = "gossip"
    rule = "theta_n <- mean of theta_n and its neighbours (ring, or a random partner) every T steps"
    paper = "Lian et al. 2017, arXiv 1705.09056; Tian et al. 2024, arXiv 2404.04616"
    sends = "all weights to two neighbours (ring) or one partner (the others) every T steps"
    when = "no collective is to be had: members talk with neighbours alone"
    needs = "the period tuned"
    Options = GossipOptions
    options: GossipOptions

    def due(self, clock: StepInfo) -> bool:
        """Whether neighbours are averaged after this step."""
        return (clock.step + 1) % self.options.every == 0 and not clock.last

    def sources(self, order: Sequence[int], clock: StepInfo) -> list[list[int]]:
        """For each exchange, whom member 0, 1, ... receives from; neighbours in order are pairs."""
        n, event = len(order), (clock.step + 1) // self.options.every - 1
        match self.options.topology:
            case "ring" if n > 2:
                return [[(member + shift) % n for member in range(n)] for shift in (1, -1)]
            case "alternating":
                return [alternating_ring(n, event)]
            case "exponential":
                return [exponential_peers(n, event)]
        return [partners(order)]

    def share(self, clock: StepInfo) -> float:
        """g, the part of the way to the average that a member goes."""
        return (clock.next_lr / clock.base_lr) ** self.options.power

    def after_step(self, population: Population, exchange: Exchange, clock: StepInfo) -> None:
        if exchange.n < 2 or not self.due(clock):
            return
        order = exchange.stream("pairs", clock.step).permutation(exchange.n).tolist()
        sources, share = self.sources(order, clock), self.share(clock)
        weights = population.weights
        received = [exchange.fetch(weights, source) for source in sources]
        correct = self.options.variance_correction
        targets = _variances([weights, *received], population.layout) if correct else None
        _average_(weights, received, share)
        if targets is not None:
            _rescale_(weights, targets, population.layout)
        if population.layout.buffer_size:
            buffers = population.buffers
            _average_(buffers, [exchange.fetch(buffers, s, "buffers") for s in sources], share)

    def charges(self, site: CommShape, clock: StepInfo) -> Sequence[CommEvent]:
        if site.n < 2 or not self.due(clock):
            return ()
        layout, sources = site.layout, self.sources(range(site.n), clock)
        charges = [charge_fetch(source, layout.size) for source in sources]
        if layout.buffer_size:
            charges += [charge_fetch(s, layout.buffer_size, "buffers") for s in sources]
        return charges


def _average_(rows: Tensor, received: Sequence[Tensor], share: float) -> None:
    """Move rows (M, D) by a share of the way to the mean of themselves and what was received."""
    # The mean of the differences leaves equal rows as they are, to the bit.
    pull = received[0] - rows
    for other in received[1:]:
        pull += other - rows
    rows.add_(pull.div_(len(received) + 1), alpha=share)


def _corrected(layout: Layout) -> list[slice]:
    """The matrices and convolutions."""
    return [
        slice(piece.offset, piece.stop)
        for piece in layout.slices
        if piece.kind == "weight" and len(piece.shape) > 1 and piece.size > 1
    ]


def _variances(inputs: Sequence[Tensor], layout: Layout) -> list[Tensor]:
    """For each corrected tensor the mean over the inputs (M, D) of its variance, (M,)."""
    import torch

    zero = torch.zeros(())
    return [
        sum((rows[:, part].var(dim=1, correction=0) for rows in inputs), zero) / len(inputs)
        for part in _corrected(layout)
    ]


def _rescale_(rows: Tensor, targets: Sequence[Tensor], layout: Layout) -> None:
    """Bring the corrected tensors' variances to their targets, about their means."""
    for part, target in zip(_corrected(layout), targets, strict=True):
        values = rows[:, part]
        mean = values.mean(dim=1, keepdim=True)
        variance = values.var(dim=1, correction=0)
        scale = (target / variance).sqrt().where(variance > 0, 1.0)
        values.sub_(mean).mul_(scale.unsqueeze(1)).add_(mean)
