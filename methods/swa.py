"""SWA: stochastic weight averaging (Izmailov et al. 2018, arXiv 1803.05407, algorithm 1).

From a share ``start`` of the training on, each member keeps the uniform mean of its weights at the
end of every ``every``-th epoch:

    swa_n <- (k swa_n + theta_n) / (k + 1),    k <- k + 1

The paper averages under a constant or cyclic learning rate and re-estimates the BatchNorm
statistics afterwards with one pass over the training data (update_bn of the published code).

Deviations: the learning rate is the run's, since all methods share one schedule; give
``--schedule constant`` or ``multistep`` for the paper's. Running statistics are averaged like the
weights, and the columns with re-estimated statistics are the paper's procedure. Before the first
mean is taken (a training that is too short), the weights themselves are measured. A member that
does not train yet (DART's common start) has its weights for a mean. The update is torch's
(torch.optim.swa_utils). Nothing is sent.

Verified: the rule, and the start with epoch 161 of 300, in the published code: 160 are left out.
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


class SwaOptions(MethodOptions):
    """Settings of SWA."""

    start: float = option(
        160 / 300, "share of the training after which averaging begins", unit="share", ge=0, lt=1
    )
    every: int = option(1, "period of the averaging", unit="epochs", ge=1)


class Swa(Wrapper):
    """Each member replaced, when measured, by the mean of its weights at the ends of epochs."""

    name = "swa"
    rule = "the mean of each member's weights at the ends of the late epochs is measured"
    paper = "Izmailov et al. 2018, arXiv 1803.05407"
    when = "the mean of the late epochs' weights, around any training rule"
    needs = "one more vector a member; its paper's rate is constant or cyclic"
    Options = SwaOptions
    options: SwaOptions
    member_state: ClassVar[Mapping[str, Rows]] = {"swa": "weights", "swa_buffers": "buffers"}

    def left_out(self, clock: StepInfo) -> int:
        """The first epochs, whose weights enter no mean."""
        return int(self.options.start * clock.epochs + 1e-9)  # 0.29 * 100 is 28.999999999999996

    def taken(self, clock: StepInfo) -> int:
        """How many weights are in the mean after this step."""
        ended = clock.epoch + clock.epoch_end - self.left_out(clock)
        return max(0, ended // self.options.every)

    def due(self, clock: StepInfo) -> bool:
        """Whether the weights after this step enter the mean."""
        ended = clock.epoch + 1 - self.left_out(clock)
        return clock.epoch_end and ended > 0 and ended % self.options.every == 0

    def start(self, population: Population, exchange: Exchange) -> None:
        super().start(population, exchange)
        self.follow(population)

    def after_step(self, population: Population, exchange: Exchange, clock: StepInfo) -> None:
        from torch.optim.swa_utils import get_swa_multi_avg_fn

        super().after_step(population, exchange, clock)
        count = self.taken(clock)
        if not self.due(clock):
            if clock.last and count == 0:
                self.follow(population)
        elif count == 1:
            self.follow(population)
        else:
            memory = population.member_state
            averages = [memory["swa"], memory["swa_buffers"]]
            get_swa_multi_avg_fn()(averages, [population.weights, population.buffers], count - 1)
            self.follow(population, self.idle(population, exchange, clock))

    def evaluated(self, population: Population) -> Population:
        memory = population.member_state
        return population.with_rows(memory["swa"], memory["swa_buffers"], population.counters)
