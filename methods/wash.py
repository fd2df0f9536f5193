"""WASH: weight averaging using parameter shuffling (Fournier et al. 2024, arXiv 2405.17517).

After every optimizer step a small random part of the coordinates is permuted across the members.
For layer l = 0..L-1 and each of its coordinates i, independently:

    b_i ~ Bernoulli(p_l),   p_l = p (1 - l / (L - 1))
    if b_i = 1:   pi ~ Uniform(S_N),   (theta_1^i, ..., theta_N^i) <- (theta_pi(1)^i, ...)

The mean of the members and their summed squared distance to it do not change; the single model is
the uniform average at the end. Coordinates and permutations come from a stream that all members
share, keyed by the seed and the step, so only the chosen values travel.

Evidence: the abstract settles that a small random share of the parameters is permuted at training
iterations, that the share is adapted to the layer, and that the models are averaged once at the
end. Bernoulli selection, a permutation of its own for each coordinate, the linear layer rule and
shuffling after every step are those of a third party's re-implementation (matttreed/dist-sims).
Unverified: the value of p, how the paper counts layers, and whether its code shuffles BatchNorm's
running statistics.

Choices of the suite: a layer is a module that owns parameters, in registration order; a network
of one layer has p_0 = p; running statistics, if asked for, are drawn like the parameters of the
layer that owns them.

Twins, for ablations: ``permutation`` takes pi among the derangements, or makes it one random shift
n -> n + r mod N, r > 0, for all coordinates of a step; ``operator = average`` replaces the same
coordinates by their mean over the members (SPARTA with WASH's layer rule).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from wash_bench.core.budget import Budget, Scaled, scaled_probability
from wash_bench.core.clock import Clock
from wash_bench.core.draw import draw_coordinates, draw_permutations
from wash_bench.core.layout import Layout
from wash_bench.core.ledger import Charge, Content, charge_mean, charge_permute
from wash_bench.core.method import Method, MethodOptions, Site
from wash_bench.core.together import average_at_
from wash_bench.core.wash_options import WashOptions

if TYPE_CHECKING:
    from torch import Tensor

    from wash_bench.core.exchange import Exchange
    from wash_bench.core.judge import Judge, Predictor
    from wash_bench.core.population import Population

Pieces = list[tuple[int, int, float]]


class Wash(Method):
    """A few random coordinates permuted across the members after every step."""

    name = "wash"
    rule = "with probability p_l, permute coordinate i of layer l across the members, every step"
    paper = "Fournier et al. 2024, arXiv 2405.17517"
    sends = "the chosen weights ((1 - 1/N) sum_l p_l d_l values a step and member)"
    Options = WashOptions
    options: WashOptions
    coupling = ("p",)

    def __init__(self, options: MethodOptions | None = None) -> None:
        super().__init__(options)
        # Found by identity: hashing a layout of 62 tensors takes longer than a shuffle.
        self._pieces: tuple[Layout, int, Pieces, Pieces] | None = None
        self._charges: tuple[Site, tuple[Charge, ...]] | None = None

    def scaled(self, budget: Budget) -> Scaled:
        """p T / every, the shuffles of a first layer's coordinate, kept."""
        return scaled_probability("p", self.options.p, budget)

    def layer_probability(self, layer: int, layers: int, n: int) -> float:
        """p_l of layer ``layer`` of ``layers``, for ``n`` members."""
        options = self.options
        share = {
            "linear_to_zero": 1 - layer / (layers - 1) if layers > 1 else 1.0,
            "constant": 1.0,
            "increasing": layer / (layers - 1) if layers > 1 else 1.0,
            "first_k": float(layer < options.k),
            "last_k": float(layer >= layers - options.k),
        }[options.layer_rule]
        correction = n / (n - 1) if options.self_correction and n > 1 else 1.0
        return min(1.0, options.p * share * correction)

    def probabilities(self, layout: Layout, n: int) -> dict[str, float]:
        """The p_l of every tensor (and, if they take part, running statistics) by name."""
        index, layers = self.options.layer_index, layout.layers(self.options.layer_index)
        table, of_owner = {}, {}
        for piece in layout.slices:
            p = self.layer_probability(layout.layer_of(piece, index), layers, n)
            table[piece.name] = p if piece.kind in self.options.include else 0.0
            of_owner.setdefault(piece.name.rpartition(".")[0], p)
        if self.options.buffers:
            # Float buffers of modules without parameters are constants (masks, positions).
            for piece in layout.buffers:
                table[piece.name] = of_owner.get(piece.name.rpartition(".")[0], 0.0)
        return table

    def facts(self, site: Site) -> dict[str, Any]:
        return {"probabilities": self.probabilities(site.layout, site.n)}

    def pieces(self, layout: Layout, n: int) -> tuple[Pieces, Pieces]:
        """``(offset, size, p)`` of the tensors and of the buffers that can be selected."""
        if self._pieces is None or self._pieces[0] is not layout or self._pieces[1] != n:
            table = self.probabilities(layout, n)
            weights, buffers = (
                [
                    (piece.offset, piece.size, p)
                    for piece in pieces
                    if (p := table.get(piece.name, 0.0)) > 0 and piece.size
                ]
                for pieces in (layout.slices, layout.buffers)
            )
            self._pieces = (layout, n, weights, buffers)
        return self._pieces[2:]

    def due(self, clock: Clock) -> bool:
        """Whether the members shuffle after this step.

        They do after steps 0, T, 2T, ... with start < progress <= stop, where progress is the
        share of the training that is done, the step just taken included: a start of 0.5 in ten
        steps means from the sixth step on, a stop of 0.5 up to the fifth.
        """
        options = self.options
        within = options.start < clock.progress <= options.stop
        merges = options.operator == "average" and clock.last  # the average would not move
        return within and clock.step % options.every == 0 and not merges

    def shuffled(self, population: Population) -> list[tuple[Tensor, Content]]:
        """The (N, D) tensors that share one shuffle."""
        return [(population.weights, "weights")]

    def after_step(self, population: Population, exchange: Exchange, clock: Clock) -> None:
        if exchange.n < 2 or not self.due(clock):
            return
        import torch

        rng = exchange.stream("shuffle", clock.step)
        weights, buffers = self.pieces(population.layout, exchange.n)
        for pieces, tensors in (
            (weights, self.shuffled(population)),
            (buffers, [(population.buffers, "buffers")]),
        ):
            if not pieces:
                continue
            coordinates = draw_coordinates(rng, pieces)
            if self.options.operator == "average":
                average_at_(exchange, tensors, torch.from_numpy(coordinates))
            else:
                sources = self.sources(exchange, rng, len(coordinates), clock)
                sources = torch.from_numpy(sources)
                exchange.permute_(tensors, torch.from_numpy(coordinates), sources)

    def sources(
        self, exchange: Exchange, rng: np.random.Generator, k: int, clock: Clock
    ) -> np.ndarray:
        """(K, N): whose value each member takes over at each of ``k`` coordinates."""
        n, kind = exchange.n, self.options.permutation
        if kind != "cyclic_shift":
            return draw_permutations(rng, k, n, kind)
        shift = int(exchange.stream("shift", clock.step).integers(1, n))
        return np.tile((np.arange(n) + shift) % n, (k, 1))

    def charges(self, site: Site, clock: Clock) -> Sequence[Charge]:
        if site.n < 2 or not self.due(clock):
            return ()
        if self._charges is None or self._charges[0] is not site:
            self._charges = (site, tuple(self._expected(site)))
        return self._charges[1]

    def _expected(self, site: Site) -> list[Charge]:
        weights, buffers = self.pieces(site.layout, site.n)
        charges = []
        if weights:
            # One shuffle moves all tensors, so their counts are equal, not independent: each
            # charge carries what it adds to the variance of the sum, (j+1)^2 - j^2 for the j-th.
            for j, content in enumerate(self.contents(site)):
                charges.append(self._charge(weights, site.n, content, 2 * j + 1))
        if buffers:
            charges.append(self._charge(buffers, site.n, "buffers", 0))
        return charges

    def _charge(self, pieces: Pieces, n: int, content: Content, times: int) -> Charge:
        mean, variance = self.moved(pieces, n)
        if self.options.operator == "average":
            return replace(charge_mean(n, mean / n, content), variance=times * variance)
        return charge_permute(mean, content, variance=times * variance)

    def contents(self, site: Site) -> list[Content]:
        """What the tensors of ``shuffled`` hold."""
        return ["weights"]

    def moved(self, pieces: Pieces, n: int) -> tuple[float, float]:
        """Mean and variance of the values that are sent in one shuffle, over all members.

        A uniform permutation moves N - 1 values on average with variance 1, a derangement or a
        shift all N, and an average takes all N. With the Bernoulli selection in front, a
        coordinate sends m p values with variance (v + m^2) p - (m p)^2.
        """
        m, v = (n - 1, 1) if self.options.uniform_shuffle else (n, 0)
        mean = sum(size * p * m for _, size, p in pieces)
        variance = sum(size * ((v + m * m) * p - (m * p) ** 2) for _, size, p in pieces)
        return mean, variance

    def predictors(self, population: Population, judge: Judge) -> dict[str, Predictor]:
        return {"average": judge.average()}
