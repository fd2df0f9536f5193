"""PAPA: population parameter averaging (Jolicoeur-Martineau et al. 2024, arXiv 2304.03094).

After every T-th optimizer step each member is pulled a little towards the population's mean
(main.py:199-212 and recombine/permutations.py:18-29 of the published code, commit 47ad83a):

    mean    = (1/N) sum_n theta_n
    1 - a_t = (lr_t / lr_0) (1 - alpha)          lr_t read after the scheduler's step
    theta_n <- a_t theta_n + (1 - a_t) mean      for every n

The mean does not change; deviations from it shrink by a_t. Weights and the BatchNorm running
statistics are pulled, the optimizer's state is not. Integer buffers are equal in all members,
which take their steps together, and need no exchange. The pull acts from the first step to the
last and nothing is averaged at the end: the single model is the average or the greedy soup.

Deviations: ``count = "global"`` (the default) counts steps over the whole training. The published
code restarts the count in each epoch, so that its period does not tick across the ends of epochs,
which distorts it when epochs are short; ``count = "epoch"`` does the same. ``power`` is not
PAPA's: with q the pull is (lr_t / lr_0)^q (1 - alpha), as DSGD-AC weakens its averages (dsgd_ac.py,
with the published q = 3).

Verified: everything above and the defaults, in the published code. Not verified: the paper's
tables, which were not at hand.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

from wash_bench.core.budget import Budget, Scaled, scaled_pull
from wash_bench.core.ledger import CommEvent
from wash_bench.core.method import CommShape, Method, MethodOptions, option
from wash_bench.core.step_info import StepInfo
from wash_bench.core.topology import mean_charges

if TYPE_CHECKING:
    from wash_bench.core.exchange import Exchange
    from wash_bench.core.merge_context import MergeContext, Predictor
    from wash_bench.core.population import Population


class PapaOptions(MethodOptions):
    """Settings of PAPA."""

    alpha: float = option(
        0.99, "share of itself that a member keeps at the base learning rate", ge=0, le=1
    )
    every: int = option(10, "period of the pull", unit="steps", ge=1)
    lr_scaling: Literal["linear", "none"] = option(
        "linear", "linear: the pull 1 - alpha shrinks with the learning rate; none: it is constant"
    )
    count: Literal["global", "epoch"] = option(
        "global", "count steps over the training, or from each epoch's start as the published code"
    )
    buffers: bool = option(True, "pull BatchNorm running statistics too")
    power: float = option(
        1.0, "with linear lr_scaling: the power of lr/lr_0 that the pull follows", later=True, ge=0
    )


class Papa(Method):
    """Members pulled towards their mean every few steps."""

    name = "papa"
    rule = "theta_n <- a theta_n + (1 - a) mean, with 1 - a = (1 - alpha) lr/lr_0, every T steps"
    paper = "Jolicoeur-Martineau et al. 2024, arXiv 2304.03094"
    sends = "all weights every T steps (d/T values a step and member)"
    when = "members that end close together, each as good as their average"
    needs = "alpha and T tuned to the length of the training"
    Options = PapaOptions
    options: PapaOptions
    coupling = ("alpha", "every")

    def scaled(self, budget: Budget) -> Scaled:
        """The contraction of the deviations over the training, the product of all a_t, kept."""
        by_rate, power = self.options.lr_scaling == "linear", self.options.power
        if by_rate and power != 1:
            rates, papers = budget.rates, budget.paper_rates
            budget = replace(
                budget,
                rates=lambda share: rates(share) ** power,
                paper_rates=lambda share: papers(share) ** power,
            )
        return scaled_pull(self.options.alpha, self.options.every, budget, by_rate=by_rate)

    def due(self, clock: StepInfo) -> bool:
        """Whether the members are pulled after this step."""
        index = clock.step if self.options.count == "global" else clock.step_in_epoch
        return index % self.options.every == 0

    def alpha(self, clock: StepInfo) -> float:
        """a_t, the share of itself that a member keeps."""
        if self.options.lr_scaling == "none":
            return self.options.alpha
        scale = (clock.next_lr / clock.base_lr) ** self.options.power
        return 1 - scale * (1 - self.options.alpha)

    def after_step(self, population: Population, exchange: Exchange, clock: StepInfo) -> None:
        if not self.due(clock):
            return
        pull = 1 - self.alpha(clock)
        population.weights.lerp_(exchange.mean(population.weights), pull)
        if self.options.buffers and population.layout.buffer_size:
            population.buffers.lerp_(exchange.mean(population.buffers, "buffers"), pull)

    def charges(self, site: CommShape, clock: StepInfo) -> Sequence[CommEvent]:
        return mean_charges(site, self.options.buffers) if self.due(clock) else ()

    def predictors(self, population: Population, judge: MergeContext) -> dict[str, Predictor]:
        return {"average": judge.average(), "greedy": judge.greedy()}
