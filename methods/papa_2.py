"""PAPA-2: members replaced by averages of random pairs every few epochs (arXiv 2304.03094).

When PAPA-all would average all members, PAPA-2 averages pairs of them:

    theta_n <- (theta_a + theta_b) / 2

``pairing = "sampled"`` is what the published code sets out to do (main.py:280-300, commit 47ad83a,
option ``pair_half``): N different pairs are drawn among all N (N - 1) / 2, and member n becomes
the average of the n-th. A member may be a parent of several or of none, so the population's mean
moves. Of two members, both become their average. ``pairing = "matching"`` draws N/2 disjoint
pairs instead and gives both partners their average, which keeps the mean; of an odd number, one
member drawn at random stays as it is.

Deviations: the published code permutes the first N rows of the list of pairs only, so that of five
members only 5 of 10 pairs can occur, and of ten only 10 of 45; here all pairs are equally likely.
No REPAIR and the moments of the merges as in PAPA-all. Weights and BatchNorm running statistics
are averaged, the optimizer's state is not.

Pairs come from a stream that all members share; only weights travel, one copy for each parent
that is not the member itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import TYPE_CHECKING, Literal

import numpy as np

from wash_bench.core.ledger import CommEvent, Content, charge
from wash_bench.core.method import CommShape, option
from wash_bench.core.step_info import StepInfo
from wash_bench.core.topology import partners
from wash_bench.methods.papa_all import PapaAll, PapaAllOptions

if TYPE_CHECKING:
    from torch import Tensor

    from wash_bench.core.exchange import Exchange
    from wash_bench.core.population import Population

Pairing = Literal["sampled", "matching"]


class Papa2Options(PapaAllOptions):
    """Settings of PAPA-2."""

    pairing: Pairing = option(
        "sampled",
        "sampled: N random pairs, member n becomes the average of the n-th; "
        "matching: disjoint random pairs, both partners become their average",
    )


def draw_parents(rng: np.random.Generator, n: int, pairing: Pairing) -> tuple[list[int], list[int]]:
    """The two parents of every member.

    Args:
        rng: the stream to draw from.
        n: number of members, at least 2.
        pairing: how pairs are formed.

    Returns:
        The first and the second parents. A member that is its own parent is so in the first list,
        and in the second only if it has no partner.
    """
    if pairing == "matching":
        return list(range(n)), partners(rng.permutation(n).tolist())
    pairs = list(combinations(range(n), 2))
    chosen = rng.choice(len(pairs), size=n, replace=False) if n > 2 else [0, 0]
    parents = [pairs[index] for index in chosen]
    first, second = zip(
        *((b, a) if b == member else (a, b) for member, (a, b) in enumerate(parents)), strict=True
    )
    return list(first), list(second)


def own_parents(n: int) -> tuple[float, float]:
    """Mean and variance, for sampled pairs, of the number of members that are their own parents."""
    # Each is with probability 2/N, two at once as often as two different pairs contain one each.
    if n == 2:
        return 2.0, 0.0
    pairs = n * (n - 1) / 2
    one, two = 2 / n, ((n - 1) ** 2 - 1) / (pairs * (pairs - 1))
    return n * one, n * one * (1 - one) + n * (n - 1) * (two - one**2)


class Papa2(PapaAll):
    """Members replaced by averages of random pairs every K epochs."""

    name = "papa-2"
    rule = (
        "theta_n <- (theta_a + theta_b)/2, random pairs, after epochs 0, K, 2K, ..., not the last"
    )
    sends = "2 - 2/N copies of all weights (matching: one) a member every K epochs"
    when = "PAPA-all for members that should differ more: pairs in place of all"
    needs = "three members or more"
    Options = Papa2Options
    options: Papa2Options  # pyright: ignore[reportIncompatibleVariableOverride]

    def after_step(self, population: Population, exchange: Exchange, clock: StepInfo) -> None:
        if exchange.n < 2 or not self.due(clock):
            return
        rng = exchange.stream("pairs", clock.step)
        parents = draw_parents(rng, exchange.n, self.options.pairing)
        self._cross(exchange, parents, population.weights, "weights")
        if self.options.buffers and population.layout.buffer_size:
            self._cross(exchange, parents, population.buffers, "buffers")

    def _cross(
        self,
        exchange: Exchange,
        parents: tuple[list[int], list[int]],
        rows: Tensor,
        content: Content,
    ) -> None:
        first, second = (exchange.fetch(rows, sources, content) for sources in parents)
        rows[:] = (first + second) / 2

    def charges(self, site: CommShape, clock: StepInfo) -> Sequence[CommEvent]:
        if site.n < 2 or not self.due(clock):
            return ()
        n, layout = site.n, site.layout
        if self.options.pairing == "matching":
            moved = [(0.0, 0.0), (float(n - n % 2), 0.0)]
        else:
            own, variance = own_parents(n)
            moved = [(n - own, variance), (float(n), 0.0)]
        pieces: list[tuple[Content, int]] = [("weights", layout.size)]
        if self.options.buffers and layout.buffer_size:
            pieces.append(("buffers", layout.buffer_size))
        return [
            charge("fetch", content, rows * size, rows * size, variance=v * size**2)
            for content, size in pieces
            for rows, v in moved
        ]
