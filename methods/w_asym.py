"""W-Asym: weights frozen at random values that all members share (Lim et al. 2024, 2405.20231).

Networks that start apart end in basins that differ by permutations of their units, so that their
average fails. For each output unit a random subset of its incoming weights, the same for all
members, is set before the first step and never changes:

    w_i = kappa g_i,  g_i ~ N(0, 1)      for i in the unit's subset; the gradient there is masked

Every unit then has a mark by which it is known, and there is little left to permute. Nothing is
ever sent: it is the control at no bytes for members with initial weights of their own
(``--init independent``).

Frozen are weights of convolutions and linear layers. The rule and kappa = 3 are those of the
authors' code (cptq/asymmetric-networks, lmc/models/models_resnet.py, commit 4459f24). It counts the
frozen weights of a unit by layer, for one ResNet: 12 of the 27 of the first convolution and some
tens in the later ones. For any architecture that is a share of the incoming weights here, at least
one.

Choices of the suite: weights are set back after every step, and the optimizer's state there to
zero, which equals a masked gradient without weight decay. Subsets and values come from a stream of
the run's seed that all processes draw alike. Two units may draw the same subset, as in the code.

Unverified: the shares, and the paper's networks; the code's have GroupNorm, not BatchNorm.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from wash_bench.core.layout import Layout, Slice
from wash_bench.core.ledger import CommEvent
from wash_bench.core.method import CommShape, Method, MethodOptions, option
from wash_bench.core.step_info import StepInfo

if TYPE_CHECKING:
    from torch import Tensor

    from wash_bench.core.exchange import Exchange
    from wash_bench.core.population import Population

COUNTS = "the code counts by layer, for one network"


class WAsymOptions(MethodOptions):
    """Settings of W-Asym."""

    kappa: float = option(3.0, "standard deviation of the frozen weights", ge=0)
    share: float = option(
        0.06,
        "frozen part of a unit's incoming weights",
        unit="share",
        unverified=COUNTS,
        ge=0,
        le=1,
    )
    first: float = option(
        12 / 27, "the same in the first layer", unit="share", unverified=COUNTS, ge=0, le=1
    )


class WAsym(Method):
    """Members that never meet, but share some weights that do not learn."""

    name = "w-asym"
    rule = (
        "a random subset of each unit's incoming weights is kappa N(0, 1), the same in all, fixed"
    )
    paper = "Lim et al. 2024, arXiv 2405.20231"
    sends = "nothing"
    when = "the control at no bytes for members that start apart"
    needs = "--init independent; shares that suit the architecture"
    Options = WAsymOptions
    options: WAsymOptions

    def __init__(self, options: MethodOptions | None = None) -> None:
        super().__init__(options)
        self._frozen: tuple[Tensor, Tensor] | None = None  # follows from the seed: no memory

    def counts(self, layout: Layout) -> list[tuple[Slice, int]]:
        """The tensors with frozen weights, and how many a unit has."""
        matrices = [
            piece
            for piece in layout.slices
            if piece.kind == "weight" and len(piece.shape) > 1 and piece.shape[0] > 1
        ]
        counted = []
        for index, piece in enumerate(matrices):
            share = self.options.share if index else self.options.first
            incoming = piece.size // piece.shape[0]
            counted.append((piece, max(1, round(share * incoming)) if share else 0))
        return counted

    def frozen(self, population: Population, exchange: Exchange) -> tuple[Tensor, Tensor]:
        """The frozen coordinates (K,) and their values (K,)."""
        import numpy as np
        import torch

        if self._frozen is None:
            chosen, values = [np.empty(0, np.int64)], [np.empty(0)]
            for piece, count in self.counts(population.layout):
                rng, units = exchange.stream("w-asym", piece.tensor), piece.shape[0]
                incoming = piece.size // units
                # In memory, too, a unit's weights lie together.
                within = rng.random((units, incoming)).argsort(axis=1)[:, :count]
                units = np.arange(units)[:, None] * incoming
                chosen.append((piece.offset + units + within).ravel())
                values.append(self.options.kappa * rng.standard_normal(within.size))
            where = torch.from_numpy(np.concatenate(chosen)).to(population.device)
            fixed = torch.from_numpy(np.concatenate(values)).float().to(population.device)
            self._frozen = where, fixed
        return self._frozen

    def start(self, population: Population, exchange: Exchange) -> None:
        self._frozen = None
        self._set_back(population, exchange)

    def after_step(self, population: Population, exchange: Exchange, clock: StepInfo) -> None:
        self._set_back(population, exchange)
        for rows in population.optimizer_state.values():
            rows[:, self.frozen(population, exchange)[0]] = 0.0

    def _set_back(self, population: Population, exchange: Exchange) -> None:
        where, values = self.frozen(population, exchange)
        population.weights[:, where] = values

    def charges(self, site: CommShape, clock: StepInfo) -> Sequence[CommEvent]:
        return ()

    def facts(self, site: CommShape) -> dict[str, Any]:
        return {"frozen_per_unit": {piece.name: k for piece, k in self.counts(site.layout)}}
