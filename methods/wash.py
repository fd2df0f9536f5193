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
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import field_validator, model_validator

from wash_bench.core.budget import Budget, Scaled, scaled_probability
from wash_bench.core.cache_last import cache_last
from wash_bench.core.layout import Kind, LayerIndex, Layout
from wash_bench.core.ledger import CommEvent, Content
from wash_bench.core.method import CommShape, Method, MethodOptions, option
from wash_bench.core.sampling import (
    Pieces,
    average_at_,
    average_charges,
    draw_coordinates,
    draw_permutations,
    permute_charges,
    pieces_of,
)
from wash_bench.core.step_info import StepInfo

if TYPE_CHECKING:
    from torch import Tensor

    from wash_bench.core.exchange import Exchange
    from wash_bench.core.population import Population

    Together = list[tuple[Tensor, Content]]

LayerRule = Literal["linear_to_zero", "constant", "increasing", "first_k", "last_k"]
THIRD_PARTY = "a third party's re-implementation, not checked against the paper"


class WashOptions(MethodOptions):
    """Settings of WASH and WASH+Opt."""

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
    operator: Literal["shuffle", "average"] = option(
        "shuffle", "permute the chosen coordinates across the members, or average them"
    )
    permutation: Literal["uniform", "derangement", "cyclic_shift"] = option(
        "uniform",
        "uniform among all permutations or among those that leave no value in place, each "
        "coordinate its own; or one random shift of the members a step",
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
        if self.operator == "average" and self.permutation != "uniform":
            raise ValueError("operator average permutes nothing: leave permutation out")
        if self.self_correction and (self.operator, self.permutation) != ("shuffle", "uniform"):
            raise ValueError("this leaves no value in place: turn self_correction off")
        if self.k != 1 and self.layer_rule not in ("first_k", "last_k"):
            raise ValueError(f"k is of layer_rule first_k and last_k, not {self.layer_rule}")
        return self


class Wash(Method):
    """A few random coordinates permuted across the members after every step."""

    name = "wash"
    rule = "with probability p_l, permute coordinate i of layer l across the members, every step"
    paper = "Fournier et al. 2024, arXiv 2405.17517"
    sends = "the chosen weights ((1 - 1/N) sum_l p_l d_l values a step and member)"
    when = "one network out of a population for few bytes: members stay apart, and mergeable"
    needs = "a common start; p tuned; BatchNorm re-estimated where members are measured"
    Options = WashOptions
    options: WashOptions
    coupling = ("p",)

    # The rule --------------------------------------------------------------------------------

    def after_step(self, population: Population, exchange: Exchange, clock: StepInfo) -> None:
        if exchange.n < 2 or not self.due(clock):
            return
        import torch

        rng = exchange.stream("shuffle", clock.step)  # all members draw the same
        layout, n = population.layout, exchange.n
        for pieces, tensors in zip(self.pieces(layout, n), self.tensors(population), strict=True):
            if not pieces:
                continue
            # The i with b_i = 1, b_i ~ Bernoulli(p_l); a pi ~ Uniform(S_N) for each; the move.
            chosen = torch.from_numpy(draw_coordinates(rng, pieces))
            if self.options.operator == "average":
                average_at_(exchange, tensors, chosen)
            else:
                pi = torch.from_numpy(self.permutations(exchange, rng, len(chosen), clock))
                exchange.permute_(tensors, chosen, pi)

    def permutations(
        self, exchange: Exchange, rng: np.random.Generator, k: int, clock: StepInfo
    ) -> np.ndarray:
        """(K, N): pi(n), whose value member n takes over, at each of ``k`` coordinates."""
        n, kind = exchange.n, self.options.permutation
        if kind != "cyclic_shift":
            return draw_permutations(rng, k, n, kind)
        shift = int(exchange.stream("shift", clock.step).integers(1, n))
        return np.tile((np.arange(n) + shift) % n, (k, 1))

    def tensors(self, population: Population) -> tuple[Together, Together]:
        """The (N, D) tensors that one shuffle moves, and the (N, F) tensors that another moves."""
        return [(population.weights, "weights")], [(population.buffers, "buffers")]

    def due(self, clock: StepInfo) -> bool:
        """Whether the members shuffle after this step: after steps 0, T, 2T, ..."""
        # A start of 0.5 in ten steps means from the sixth step on, a stop of 0.5 up to the fifth.
        options = self.options
        within = options.start < clock.progress <= options.stop
        merges = options.operator == "average" and clock.last  # the average would not move
        return within and clock.step % options.every == 0 and not merges

    # The probabilities -----------------------------------------------------------------------

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

    @cache_last
    def pieces(self, layout: Layout, n: int) -> tuple[Pieces, Pieces]:
        """The tensors, and the buffers, that coordinates can be drawn from, each with its p_l."""
        table = self.probabilities(layout, n)
        return pieces_of(layout.slices, table), pieces_of(layout.buffers, table)

    # What it costs, and how it scales ----------------------------------------------------------

    def charges(self, site: CommShape, clock: StepInfo) -> Sequence[CommEvent]:
        return self.charges_when_due(site) if site.n > 1 and self.due(clock) else ()

    @cache_last
    def charges_when_due(self, site: CommShape) -> tuple[CommEvent, ...]:
        """What one shuffle is expected to send."""
        expected = average_charges
        if self.options.operator == "shuffle":
            expected = partial(permute_charges, uniform=self.options.permutation == "uniform")
        parts = zip(self.pieces(site.layout, site.n), self.contents(site), strict=True)
        return tuple(charge for part in parts for charge in expected(site.n, *part))

    def contents(self, site: CommShape) -> tuple[list[Content], list[Content]]:
        """What ``tensors`` hold."""
        return ["weights"], ["buffers"]

    def facts(self, site: CommShape) -> dict[str, Any]:
        return {"probabilities": self.probabilities(site.layout, site.n)}

    def scaled(self, budget: Budget) -> Scaled:
        """The shuffles of a first layer's coordinate, p T / every, kept."""
        return scaled_probability("p", self.options.p, budget)
