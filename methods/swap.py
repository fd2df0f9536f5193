"""SWAP: stochastic weight averaging in parallel (Gupta et al. 2020, ICLR, arXiv 2001.02312).

1. Large batch: all members train one network together, synchronously, on a batch N times as large.
2. Small batch: each member refines its copy alone, on minibatches in an order of its own.
3. The members' weights are averaged and the BatchNorm statistics computed anew.

Phase 1 needs no other loop: from equal weights and momenta, a step of SGD with momentum and weight
decay is linear in the gradient, so the mean of the members' weights and momenta after the step is
the step with the mean of their gradients, that of the N-fold batch:

    theta_n, v_n <- mean(theta), mean(v)     after every step of phase 1, from a common start

Batches are normalized member by member, as by data-parallel training without synchronized
BatchNorm; running statistics are averaged with the weights.

Deviations: data-parallel training would send the gradients, one vector a step; the mean of weights
and momentum sends 1 + (optimizer slots) vectors, and that is what is charged. With AdamW the
second moment is not linear in the gradient, and phase 1 is the mean of N Adam steps instead. The
N-fold batch joins one minibatch of each member's own pass over the data. The learning rate
follows the run's schedule throughout; the paper has one for each phase, higher in phase 1.
Phase 1 takes a share of the steps instead of ending at a training accuracy. Momentum carries
over from phase 1 to phase 2.

Verified: the three phases and the recomputed statistics, in the abstract and a summary. Not
verified: the length of phase 1, and what becomes of the momentum between the phases.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from wash_bench.core.ledger import CommEvent, charge_mean
from wash_bench.core.method import CommShape, Method, MethodOptions, option
from wash_bench.core.step_info import StepInfo
from wash_bench.core.topology import mean_charges, restart_from_mean, start_charges, start_equal

if TYPE_CHECKING:
    from wash_bench.core.exchange import Exchange
    from wash_bench.core.merge_context import MergeContext, Predictor
    from wash_bench.core.population import Population


class SwapOptions(MethodOptions):
    """Settings of SWAP."""

    phase1: float = option(
        0.5,
        "synchronous large-batch phase (rounded down to steps)",
        unit="share of steps",
        unverified="the paper ends it at a training accuracy that depends on the data set",
        ge=0,
        lt=1,
    )


class Swap(Method):
    """One network trained together on large batches, then refined apart and averaged."""

    name = "swap"
    rule = "synchronous steps on the N-fold batch, then apart; averaged, BatchNorm recomputed"
    paper = "Gupta et al. 2020, arXiv 2001.02312"
    sends = "all weights and their optimizer state in every step of phase 1, then nothing"
    when = "large-batch training first, then the last part apart"
    needs = (
        "all weights and momenta at each step of the first part; SGD; training images for BatchNorm"
    )
    Options = SwapOptions
    options: SwapOptions

    def synchronous(self, clock: StepInfo) -> bool:
        """Whether this step belongs to phase 1."""
        share = self.options.phase1 * clock.steps
        return clock.step < math.floor(share + 1e-9)  # 0.29 * 100 is 28.999999999999996

    def start(self, population: Population, exchange: Exchange) -> None:
        start_equal(population, exchange)

    def after_step(self, population: Population, exchange: Exchange, clock: StepInfo) -> None:
        if not self.synchronous(clock):
            return
        restart_from_mean(population, exchange)
        for state in population.optimizer_state.values():
            state[:] = exchange.mean(state, "optimizer")

    def charges(self, site: CommShape, clock: StepInfo) -> Sequence[CommEvent]:
        charges = start_charges(site, clock)
        if self.synchronous(clock):
            optimizer = charge_mean(site.n, site.layout.size, "optimizer")
            charges += [*mean_charges(site), *[optimizer] * site.optimizer_slots]
        return charges

    def predictors(self, population: Population, judge: MergeContext) -> dict[str, Predictor]:
        from wash_bench.core.merge_context import Predictor

        average = judge.average()
        recomputed = judge.reestimated(average.states[0])
        return {"swap": Predictor([recomputed], average.members), "average": average}
