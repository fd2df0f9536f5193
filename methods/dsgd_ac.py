"""DSGD-AC: decentralized SGD whose averages weaken with the rate (Wang, Johansson, 2602.02899).

With W the mixing weights of the step's graph and lr_max the rate with which the weakening begins,

    b_n     = (W theta)_n                          of the weights with which the last step ended
    u_n     = the optimizer's step for the gradient at theta_n, which is not mixed
    theta_n <- (1 - g) theta_n + g b_n + u_n
    g       = 1 up to a share ``start`` of the epochs, then c + (1 - c) (lr_t / lr_max)^q

so that members draw apart again as the rate falls, instead of meeting. Mixing and gradient need not
wait for each other. The graphs: one neighbour on a ring by turns (``alternating``) or member
n XOR 2^k by turns (``exponential``), weights 1/2, or all members (``complete``). A member without a
partner rests. The model is the mean of the members, its BatchNorm statistics re-estimated; the
members' own are not mixed.

The rule is that of the authors' code (WangZesen/decent-sam-grc, image-cifar/src: decent_train.py,
utils.py, commit 4ad794d), with q = 3, c = 0 and a start with epoch 10 of 200, where its warm-up of
the rate ends. There, too, all begin as one.

PAPA pulls to the mean of all after the step, every tenth, by 0.01 (lr/lr_0)^1.

Deviations: the loop takes the optimizer's step before it asks the method, so each member remembers
the weights that its step began with, one vector; weight decay, which the code applies to the mixed
weights, falls on the unmixed ones. g never exceeds 1, should the rate still grow after the start.
The code leaves biases and normalization without weight decay; here the run decides.

The code's default graph is the alternating one, as here.
Unverified: which graph the paper's main results have; its text was not at hand beyond the abstract.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar, Literal

from wash_bench.core.ledger import CommEvent, charge_fetch, charge_mean
from wash_bench.core.method import CommShape, Method, MethodOptions, Rows, option
from wash_bench.core.step_info import StepInfo
from wash_bench.core.topology import (
    alternating_ring,
    exponential_peers,
    start_charges,
    start_equal,
)

if TYPE_CHECKING:
    from torch import Tensor

    from wash_bench.core.exchange import Exchange
    from wash_bench.core.merge_context import MergeContext, Predictor
    from wash_bench.core.population import Population


class DsgdAcOptions(MethodOptions):
    """Settings of DSGD-AC."""

    topology: Literal["alternating", "exponential", "complete"] = option(
        "alternating",
        "mix with one neighbour on a ring by turns, with member n XOR 2^k by turns, or with all",
        unverified="the code offers the three",
    )
    power: float = option(3.0, "q, the power of lr/lr_max that g follows", ge=0)
    floor: float = option(0.0, "c, the least g", ge=0, le=1)
    start: float = option(
        0.05, "epochs with g = 1 (rounded down)", unit="share of epochs", ge=0, le=1
    )


class DsgdAc(Method):
    """Members mixed with a neighbour at every step, ever more weakly."""

    name = "dsgd-ac"
    rule = "theta_n <- (1 - g) theta_n + g (W theta)_n - lr grad(theta_n), g = (lr/lr_max)^3"
    paper = "Wang and Johansson 2026, arXiv 2602.02899"
    sends = "one copy of the common start, then all weights to one partner (or all) at every step"
    when = "one neighbour each, and a mixing that fades: members end near but apart"
    needs = "a decaying rate; start epochs of full mixing"
    Options = DsgdAcOptions
    options: DsgdAcOptions
    member_state: ClassVar[Mapping[str, Rows]] = {"before": "weights"}

    def __init__(self, options: MethodOptions | None = None) -> None:
        super().__init__(options)
        self._peak: Tensor | None = None  # (1,) float32, lr_max once it is known

    def start(self, population: Population, exchange: Exchange) -> None:
        self._peak = None
        start_equal(population, exchange)
        population.member_state["before"].copy_(population.weights)

    def after_step(self, population: Population, exchange: Exchange, clock: StepInfo) -> None:
        g, before = self.share(clock), population.member_state["before"]
        if self.due(exchange.n, clock):
            b = self.mixed(before, exchange, clock)
            population.weights.add_(b.sub_(before), alpha=g)  # 0 where the mixed ones are equal
        before.copy_(population.weights)

    def due(self, n: int, clock: StepInfo) -> bool:
        """Whether there are weights to mix: those with which another step ended."""
        return n > 1 and clock.step > 0

    def share(self, clock: StepInfo) -> float:
        """G of this step; called at every step, for it keeps lr_max."""
        import torch

        begins = math.floor(self.options.start * clock.epochs + 1e-9)
        if clock.epoch < begins:
            return 1.0
        if self._peak is None:
            self._peak = torch.tensor([clock.lr], dtype=torch.float32)
        floor, weakened = self.options.floor, (clock.lr / self._peak.item()) ** self.options.power
        return min(1.0, floor + (1 - floor) * weakened)

    def mixed(self, rows: Tensor, exchange: Exchange, clock: StepInfo) -> Tensor:
        """W theta for this process's members (M, D), a tensor of its own."""
        if self.options.topology == "complete":
            return exchange.mean(rows).expand_as(rows).clone()
        return rows.lerp(exchange.fetch(rows, self.sources(exchange.n, clock)), 0.5)

    def sources(self, n: int, clock: StepInfo) -> list[int]:
        """The partner of each member."""
        peers = alternating_ring if self.options.topology == "alternating" else exponential_peers
        return peers(n, clock.step - 1)

    def charges(self, site: CommShape, clock: StepInfo) -> Sequence[CommEvent]:
        charges = start_charges(site, clock)
        if self.due(site.n, clock):
            if self.options.topology == "complete":
                charges.append(charge_mean(site.n, site.layout.size))
            else:
                charges.append(charge_fetch(self.sources(site.n, clock), site.layout.size))
        return charges

    def state_dict(self) -> dict[str, Tensor]:
        return {} if self._peak is None else {"peak": self._peak}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        self._peak = state["peak"].cpu() if "peak" in state else None

    def predictors(self, population: Population, judge: MergeContext) -> dict[str, Predictor]:
        from wash_bench.core.merge_context import Predictor

        average = judge.average()
        merged = judge.reestimated(average.states[0])
        return {"dsgd-ac": Predictor([merged], average.members), "average": average}
