"""Streaming DiLoCo: DiLoCo one part of the network at a time (Douillard et al. 2025, 2501.18512).

Algorithm 2 of the paper. The layers lie in P fragments: layer l in fragment l mod P (``strided``),
or in runs of neighbours. Fragment p has an offset t_p = p H / P. After t steps with
(t - t_p) mod H = 0 the mean of its members departs, and tau steps later it arrives:

    Delta_p = phi_p - (1/N) sum_n theta_{n,p}     of step t
    phi_p   <- OuterOpt(phi_p, Delta_p)           at step t + tau, DiLoCo's outer optimizer
    theta_{n,p} <- alpha theta_{n,p} + (1 - alpha) phi_p

so that the peak of what is sent at once falls by P and the members need not wait. P = 1, tau = 0
and alpha = 0 are DiLoCo, of which this is a subclass: the outer optimizer, the common start and the
merge are its own. What would arrive with the last step or later does not depart; the merge takes
the outer step of all fragments at once.

A layer is a module with parameters, in registration order; BatchNorm's running statistics travel
with the layer that owns them, are averaged and mixed in alike, without an outer step.

Deviation: the paper's deltas travel in four bits (E3M0), here in float32.

Verified in the paper's text: the algorithm and the outer rate of 0.4; strided fragments and offsets
also in torchft (local_sgd.py, commit 7eb7087). Not verified: H, P, tau and alpha.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from pydantic import model_validator

from wash_bench.core.cache_last import cache_last
from wash_bench.core.layout import values_at
from wash_bench.core.ledger import CommEvent, charge_mean
from wash_bench.core.method import CommShape, option
from wash_bench.core.step_info import StepInfo
from wash_bench.core.topology import start_charges
from wash_bench.methods.diloco import Diloco, DilocoOptions

if TYPE_CHECKING:
    from torch import Tensor

    from wash_bench.core.exchange import Exchange
    from wash_bench.core.layout import Layout
    from wash_bench.core.population import Population

    Fragment = tuple[Tensor, Tensor]

RECALLED = "recalled, not checked against the paper"


class StreamingDilocoOptions(DilocoOptions):
    """Settings of Streaming DiLoCo."""

    every: int = option(
        100,
        "H, inner steps between two outer steps of a fragment",
        unit="steps",
        unverified=RECALLED,
        ge=1,
    )
    outer_lr: float = option(0.4, "learning rate of the outer optimizer", gt=0)
    fragments: int = option(4, "P, parts of the network", unverified="this suite's choice", ge=1)
    pattern: Literal["strided", "sequential"] = option(
        "strided", "layer l in fragment l mod P, or runs of neighbouring layers"
    )
    tau: int = option(
        1, "steps that a mean is under way, fewer than H", unit="steps", unverified=RECALLED, ge=0
    )
    alpha: float = option(
        0.5, "share of itself that a member keeps on arrival", unverified=RECALLED, ge=0, le=1
    )

    @model_validator(mode="after")
    def _one_at_a_time(self) -> StreamingDilocoOptions:
        if self.tau >= self.every:
            raise ValueError(f"tau ({self.tau}) must be less than every ({self.every})")
        return self


class StreamingDiloco(Diloco):
    """Members whose layers take DiLoCo's outer steps by turns, and late."""

    name = "streaming-diloco"
    rule = "DiLoCo's outer step for fragment p of the layers, every H steps at an offset, tau late"
    paper = "Douillard et al. 2025, arXiv 2501.18512"
    sends = "one copy of the common start, then all weights every H steps, a fragment at a time"
    when = "DiLoCo over a slow link: a part of the network at a time, while training goes on"
    needs = "a common start; outer weights and momentum in every process"
    Options = StreamingDilocoOptions
    options: StreamingDilocoOptions  # pyright: ignore[reportIncompatibleVariableOverride]

    # When ------------------------------------------------------------------------------------

    def departs(self, fragment: int, clock: StepInfo) -> bool:
        """Whether the fragment's mean is taken after this step."""
        in_time = clock.step + self.options.tau < clock.steps - 1
        return in_time and self._turn(fragment, clock.step + 1)

    def arrives(self, fragment: int, clock: StepInfo) -> bool:
        """Whether the mean that was taken tau steps ago is used after this step."""
        taken = clock.step + 1 - self.options.tau
        return taken > 0 and not clock.last and self._turn(fragment, taken)

    def _turn(self, fragment: int, taken: int) -> bool:
        """Whether it is the fragment's turn after so many steps."""
        options = self.options
        offset = fragment * options.every // options.fragments
        return (taken - offset) % options.every == 0

    # What ------------------------------------------------------------------------------------

    @cache_last
    def fragments(self, layout: Layout) -> tuple[Fragment, ...]:
        """The coordinates of each fragment's weights (K,) and buffers (B,), ascending."""
        import torch

        layers, parts = layout.layers(), self.options.fragments
        strided = self.options.pattern == "strided"

        def place(layer: int) -> int:
            return layer % parts if strided else layer * parts // layers

        of_owner = {p.name.rpartition(".")[0]: place(p.leaf_module) for p in layout.slices}
        found: list[tuple[list[Tensor], list[Tensor]]] = [([], []) for _ in range(parts)]
        for piece in layout.slices:
            found[place(piece.leaf_module)][0].append(torch.arange(piece.offset, piece.stop))
        for piece in layout.buffers:  # of a module without parameters: with the first fragment
            fragment = of_owner.get(piece.name.rpartition(".")[0], 0)
            found[fragment][1].append(torch.arange(piece.offset, piece.stop))
        none = torch.empty(0, dtype=torch.int64)
        return tuple((torch.cat([none, *a]), torch.cat([none, *b])) for a, b in found)

    # The rule --------------------------------------------------------------------------------

    def after_step(self, population: Population, exchange: Exchange, clock: StepInfo) -> None:
        buffers = self.options.buffers
        for fragment, (weights, beside) in enumerate(self.fragments(population.layout)):
            if self.departs(fragment, clock):
                if len(weights):
                    where = weights.to(population.device)
                    mean = exchange.mean(values_at(population.weights, where))
                    self._memory[f"mean {fragment}"] = mean
                if buffers and len(beside):
                    where = beside.to(population.device)
                    mean = exchange.mean(values_at(population.buffers, where), "buffers")
                    self._memory[f"mean of buffers {fragment}"] = mean
            if self.arrives(fragment, clock):
                self._arrive(population, fragment, weights.to(population.device))
                self._mix(
                    population.buffers,
                    beside.to(population.device),
                    self._memory.pop(f"mean of buffers {fragment}", None),
                )

    def _arrive(self, population: Population, fragment: int, where: Tensor) -> None:
        mean = self._memory.pop(f"mean {fragment}", None)
        if mean is None:
            return
        weights, momentum = self.outer_step(mean, where)
        self._memory["global"][where] = weights
        self._memory["momentum"][where] = momentum
        self._mix(population.weights, where, weights)

    def _mix(self, rows: Tensor, where: Tensor, arrived: Tensor | None) -> None:
        """Move coordinates of the members (M, D) to what arrived (K,), but for alpha of them."""
        if arrived is not None:
            own = values_at(rows, where)
            rows.index_copy_(1, where, arrived.expand_as(own).lerp(own, self.options.alpha))

    def charges(self, site: CommShape, clock: StepInfo) -> Sequence[CommEvent]:
        charges = start_charges(site, clock)
        for fragment in range(self.options.fragments):
            if self.departs(fragment, clock):
                weights, buffers = self.fragments(site.layout)[fragment]
                if len(weights):
                    charges.append(charge_mean(site.n, len(weights)))
                if self.options.buffers and len(buffers):
                    charges.append(charge_mean(site.n, len(buffers), "buffers"))
        return charges
