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
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import field_validator, model_validator

from wash_bench.core.clock import Clock
from wash_bench.core.draw import draw_coordinates, draw_permutations
from wash_bench.core.layout import Kind, LayerIndex, Layout
from wash_bench.core.ledger import Charge, Content, charge_permute
from wash_bench.core.method import Method, MethodOptions, Site, option

if TYPE_CHECKING:
    from torch import Tensor

    from wash_bench.core.exchange import Exchange
    from wash_bench.core.population import Population
    from wash_bench.evaluate.judge import Judge, Predictor

LayerRule = Literal["linear_to_zero", "constant", "increasing", "first_k", "last_k"]
Pieces = list[tuple[int, int, float]]
THIRD_PARTY = "a third party's re-implementation, not checked against the paper"


class WashOptions(MethodOptions):
    """Settings of WASH."""

    p: float = option(
        0.001,
        "base probability that a coordinate is shuffled",
        unit="probability",
        unverified="recalled for CIFAR, not checked against the paper",
        ge=0,
        le=1,
    )
    layer_rule: LayerRule = option(
        "linear_to_zero",
        "p_l by depth: p falling to 0 at the last layer, p everywhere, p growing from 0, "
        "p in the first or last k layers only",
        unverified=THIRD_PARTY,
    )
    k: int = option(1, "layers that first_k and last_k shuffle", unit="layers", ge=1)
    layer_index: LayerIndex = option(
        "leaf_module",
        "what counts as a layer: a module with parameters, a tensor, or a module with a matrix",
        unverified="the paper's own count is not known; the choice moves the volume by about 5 %",
    )
    permutation: Literal["uniform", "derangement"] = option(
        "uniform",
        "uniform among all permutations, or among those that leave no value in place",
        unverified=THIRD_PARTY,
    )
    self_correction: bool = option(
        False, "divide p_l by 1 - 1/N, since a uniform permutation leaves 1/N of the values"
    )
    every: int = option(1, "period of the shuffle", unit="steps", unverified=THIRD_PARTY, ge=1)
    start: float = option(
        0.0, "shuffle only after this share of the training", unit="share of steps", ge=0, le=1
    )
    stop: float = option(
        1.0, "shuffle only up to this share of the training", unit="share of steps", ge=0, le=1
    )
    include: tuple[Kind, ...] = option(
        ("weight", "bias", "norm"),
        "tensors that are shuffled: weight, bias, norm (affine parameters of normalization)",
        unverified=THIRD_PARTY,
        min_length=1,
    )
    buffers: bool = option(
        False,
        "shuffle BatchNorm running statistics too",
        unverified="what the authors' code does is not known",
    )

    @field_validator("include", mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:
        return value.split(",") if isinstance(value, str) else value

    @model_validator(mode="after")
    def _consistent(self) -> WashOptions:
        if self.start >= self.stop:
            raise ValueError(f"start ({self.start}) must lie before stop ({self.stop})")
        if self.self_correction and self.permutation == "derangement":
            raise ValueError("a derangement leaves no value in place: turn self_correction off")
        return self


class Wash(Method):
    """A few random coordinates permuted across the members after every step."""

    name = "wash"
    rule = "with probability p_l, permute coordinate i of layer l across the members, every step"
    paper = "Fournier et al. 2024, arXiv 2405.17517"
    sends = "the chosen weights ((1 - 1/N) sum_l p_l d_l values a step and member)"
    Options = WashOptions
    options: WashOptions

    def __init__(self, options: MethodOptions | None = None) -> None:
        super().__init__(options)
        # Found by identity: hashing a layout of 62 tensors takes longer than a shuffle.
        self._pieces: tuple[Layout, int, Pieces, Pieces] | None = None
        self._charges: tuple[Site, tuple[Charge, ...]] | None = None

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
        return within and clock.step % options.every == 0

    def shuffled(self, population: Population) -> list[tuple[Tensor, Content]]:
        """The (N, D) tensors that share one shuffle."""
        return [(population.weights, "weights")]

    def after_step(self, population: Population, exchange: Exchange, clock: Clock) -> None:
        if exchange.n < 2 or not self.due(clock):
            return
        rng = exchange.stream("shuffle", clock.step)
        weights, buffers = self.pieces(population.layout, exchange.n)
        self._shuffle(exchange, rng, weights, self.shuffled(population))
        self._shuffle(exchange, rng, buffers, [(population.buffers, "buffers")])

    def _shuffle(
        self,
        exchange: Exchange,
        rng: np.random.Generator,
        pieces: Pieces,
        tensors: Sequence[tuple[Tensor, Content]],
    ) -> None:
        if not pieces:
            return
        import torch

        coordinates = draw_coordinates(rng, pieces)
        sources = draw_permutations(rng, len(coordinates), exchange.n, self.options.permutation)
        coordinates, sources = torch.from_numpy(coordinates), torch.from_numpy(sources)
        exchange.permute_(tensors, coordinates, sources)

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
            mean, variance = self.moved(weights, site.n)
            # One shuffle moves all tensors, so their counts are equal, not independent: each
            # charge carries what it adds to the variance of the sum, (j+1)^2 - j^2 for the j-th.
            for j, content in enumerate(self.contents(site)):
                charges.append(charge_permute(mean, content, variance=(2 * j + 1) * variance))
        if buffers:
            charges.append(charge_permute(self.moved(buffers, site.n)[0], "buffers"))
        return charges

    def contents(self, site: Site) -> list[Content]:
        """What the tensors of ``shuffled`` hold."""
        return ["weights"]

    def moved(self, pieces: Pieces, n: int) -> tuple[float, float]:
        """Mean and variance of the values that change owner in one shuffle, over all members.

        A uniform permutation moves N - 1 values on average with variance 1, a derangement all N.
        With the Bernoulli selection in front, a coordinate moves m p values with variance
        (v + m^2) p - (m p)^2.
        """
        m, v = (n - 1, 1) if self.options.permutation == "uniform" else (n, 0)
        mean = sum(size * p * m for _, size, p in pieces)
        variance = sum(size * ((v + m * m) * p - (m * p) ** 2) for _, size, p in pieces)
        return mean, variance

    def predictors(self, population: Population, judge: Judge) -> dict[str, Predictor]:
        return {"average": judge.average()}
