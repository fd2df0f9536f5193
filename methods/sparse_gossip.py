"""Sparse gossip and one global merge (2507.06542, ICLR 2026): apart for long, together at the end.

After every T-th step each member takes the mean of itself and of r random others on average: int(r)
of them, and one more with the probability of what is left. Who gives need not take, so that the
population's mean moves. From a share ``merge`` of the training on, r is N - 1: all become the mean
of all, at once and then at every T-th step; with ``window`` w only up to a share merge + w.

    theta_n <- mean of theta_n and the theta_m of its peers      r = 0.2 until then
    theta_n <- (1/N) sum_m theta_m                               after it

It asks how little talk keeps members mergeable. The schedule is that of the authors' code
(Raiden-Zhu/ICLR-2026-Grokking-in-Decentralized-Learning, core/communication.py and
gossip_matrix.py, commit 6a5c139: ``truncate`` and, with a window, ``truncate_v2``).

Choices of the suite: the global merge also averages BatchNorm's running statistics, which the
sparse averages leave alone, as the code's average parameters; the optimizer's state stays. The last
step averages nothing: the members end distinct, and what training is left after the merge parts
them. The code takes its merge at the next T-th step, which a short training may not have.

Left out: the accuracy of the average during training, which the paper follows.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from wash_bench.core.ledger import CommEvent, charge
from wash_bench.core.method import CommShape, Method, MethodOptions, option
from wash_bench.core.step_info import StepInfo
from wash_bench.core.topology import mean_charges, restart_from_mean

if TYPE_CHECKING:
    import numpy as np

    from wash_bench.core.exchange import Exchange
    from wash_bench.core.population import Population


class SparseGossipOptions(MethodOptions):
    """Settings of sparse gossip."""

    peers: float = option(0.2, "r, others that a member averages with, on average", ge=0)
    every: int = option(100, "T, period of the averages", unit="steps", ge=1)
    merge: float = option(
        0.99,
        "training before the global merge; 1: there is none",
        unit="share of steps",
        ge=0,
        le=1,
    )
    window: float = option(
        0.0, "length of the time of global merges; 0: to the end", unit="share of steps", ge=0, le=1
    )


def draw_peers(rng: np.random.Generator, n: int, peers: float) -> list[list[int]]:
    """For each exchange, whom member 0, 1, ... receives from, itself where it is nobody.

    Args:
        rng: the stream to draw from.
        n: number of members.
        peers: r, less than n - 1.

    Returns:
        One list for each of the int(r) sure peers and, if r is no whole number, one more.
    """
    sure, chance = int(peers), peers % 1
    chosen = []
    for member in range(n):
        others = [other for other in range(n) if other != member]
        drawn = rng.permutation(others)[: sure + 1].tolist()
        if rng.random() >= chance:
            drawn[sure] = member
        chosen.append(drawn)
    lists = [list(sources) for sources in zip(*chosen, strict=True)]
    return lists if chance else lists[:sure]


class SparseGossip(Method):
    """Members that rarely average with a random peer, and once with all."""

    name = "sparse-gossip"
    rule = "theta_n <- mean with r random others every T steps; late, once, with all"
    paper = "arXiv 2507.06542, ICLR 2026"
    sends = "r copies of all weights a member every T steps, then a mean of all"
    when = "to see how little talk keeps members mergeable"
    needs = "a training long enough for a T-th step"
    Options = SparseGossipOptions
    options: SparseGossipOptions

    def merges(self, clock: StepInfo) -> bool:
        """Whether this is the time of global merges."""
        options = self.options
        ends = options.merge + options.window if options.window else 1.0
        return options.merge < clock.progress <= ends

    def due(self, clock: StepInfo) -> bool:
        """Whether members average after this step."""
        first = self.merges(clock) and clock.step / clock.steps <= self.options.merge
        return not clock.last and (first or (clock.step + 1) % self.options.every == 0)

    def after_step(self, population: Population, exchange: Exchange, clock: StepInfo) -> None:
        if exchange.n < 2 or not self.due(clock):
            return
        if self.merges(clock) or self.options.peers >= exchange.n - 1:
            restart_from_mean(population, exchange)
            return
        lists = draw_peers(exchange.stream("peers", clock.step), exchange.n, self.options.peers)
        rows = population.weights
        pull, count = rows.new_zeros(rows.shape), rows.new_ones(len(rows), 1)
        for sources in lists:
            pull += exchange.fetch(rows, sources) - rows  # 0 where it is its own
            for row, member in enumerate(population.members):
                count[row] += sources[member] != member
        rows.add_(pull.div_(count))

    def charges(self, site: CommShape, clock: StepInfo) -> Sequence[CommEvent]:
        n, size, peers = site.n, site.layout.size, self.options.peers
        if n < 2 or not self.due(clock):
            return ()
        if self.merges(clock) or peers >= n - 1:
            return mean_charges(site)
        charges = [charge("fetch", "weights", n * size, n * size)] * math.floor(peers)
        if chance := peers % 1:
            expected, variance = n * chance * size, n * chance * (1 - chance) * size**2
            charges.append(charge("fetch", "weights", expected, expected, variance=variance))
        return charges
