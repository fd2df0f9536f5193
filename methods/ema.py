"""EMA: an exponential moving average of each member's weights along its trajectory.

After every step (and after the method inside has coupled the members):

    ema_n <- beta ema_n + (1 - beta) theta_n

The training is not touched; the members that are measured and merged are the averages. BatchNorm
running statistics are averaged in the same way, as timm and DART's code do; the columns with
re-estimated statistics show what that costs.

Deviations and choices: with ``warmup`` the decay is min(beta, (1 + t) / (10 + t)) at step t from
0, the usual correction for a start from the initial weights. The update is torch's
(torch.optim.swa_utils). Nothing is sent: each member keeps its own average.

Unverified: the decay of the papers that report results with EMA.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from wash_bench.core.method import MethodOptions, Rows, option
from wash_bench.core.step_info import StepInfo
from wash_bench.core.wrapper import Wrapper

if TYPE_CHECKING:
    from collections.abc import Mapping

    from wash_bench.core.exchange import Exchange
    from wash_bench.core.population import Population


class EmaOptions(MethodOptions):
    """Settings of EMA."""

    decay: float = option(
        0.999, "beta, the share that the average keeps each step", unverified="a custom", ge=0, lt=1
    )
    warmup: bool = option(True, "a smaller decay at first: at most (1 + t) / (10 + t)")


class Ema(Wrapper):
    """Each member replaced, when measured, by the moving average of its weights."""

    name = "ema"
    rule = "ema_n <- beta ema_n + (1 - beta) theta_n every step; the averages are measured"
    paper = "Polyak and Juditsky 1992; the form common in deep learning codes"
    when = "smoother members without bytes, around any training rule"
    needs = "one more vector a member; a decay that suits the length of the training"
    Options = EmaOptions
    options: EmaOptions
    member_state: ClassVar[Mapping[str, Rows]] = {"ema": "weights", "ema_buffers": "buffers"}

    def decay(self, clock: StepInfo) -> float:
        """beta_t, the share that the average keeps after this step."""
        options = self.options
        limit = (1 + clock.step) / (10 + clock.step) if options.warmup else 1.0
        return min(options.decay, limit)

    def start(self, population: Population, exchange: Exchange) -> None:
        super().start(population, exchange)
        self.follow(population)

    def after_step(self, population: Population, exchange: Exchange, clock: StepInfo) -> None:
        from torch.optim.swa_utils import get_ema_multi_avg_fn

        super().after_step(population, exchange, clock)
        update = get_ema_multi_avg_fn(self.decay(clock))
        memory = population.member_state
        averages = [memory["ema"], memory["ema_buffers"]]
        update(averages, [population.weights, population.buffers], None)
        self.follow(population, self.idle(population, exchange, clock))

    def evaluated(self, population: Population) -> Population:
        memory = population.member_state
        return population.with_rows(memory["ema"], memory["ema_buffers"], population.counters)
