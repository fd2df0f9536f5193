"""Local SGD, or federated averaging: train apart, average every H steps (arXiv 1602.05629).

McMahan et al. 2017 let a server average what clients trained by themselves, once a round; Stich
2019 (arXiv 1805.09767) and Lin et al. 2020 (arXiv 1808.07217) study the same with every worker in
every round, as here. After steps H, 2H, 3H, ...

    theta_n <- (1/N) sum_m theta_m          for every n

H = 1 with SGD from a common start is large-batch training: momentum is linear in the gradients,
so members that keep momenta of their own take the step of the mean gradient.

Weights and BatchNorm running statistics are averaged; the optimizer's state stays with its member.
Integer buffers are equal in all members. The last step does not average: the members end distinct
and their average is the single model, which is the same network.

Deviations: all members take part in every round, with equal weights since all see the same number
of images; each sees the whole training set in an order of its own, not a shard. Members that
start apart, as the run's initialization may ask, are first averaged after H steps.

Unverified: H. The papers vary it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from wash_bench.core.ledger import CommEvent
from wash_bench.core.method import CommShape, Method, MethodOptions, option
from wash_bench.core.step_info import StepInfo
from wash_bench.core.topology import mean_charges

if TYPE_CHECKING:
    from torch import Tensor

    from wash_bench.core.exchange import Exchange
    from wash_bench.core.population import Population


class LocalSgdOptions(MethodOptions):
    """Settings of local SGD."""

    every: int = option(
        16,
        "H, the time between two averages",
        unit="steps",
        unverified="the papers vary it and single out no value",
        ge=1,
    )
    buffers: bool = option(True, "average BatchNorm running statistics too")


class LocalSgd(Method):
    """Members replaced by their mean every H steps."""

    name = "local-sgd"
    rule = "theta_n <- mean every H steps"
    paper = "McMahan et al. 2017, arXiv 1602.05629; Lin et al. 2020, arXiv 1808.07217"
    sends = "all weights every H steps (d/H values a step and member)"
    when = "the plain control: every=1 is a larger batch, a longer period saves bytes"
    needs = "H tuned"
    Options = LocalSgdOptions
    options: LocalSgdOptions
    restarts = True

    def due(self, clock: StepInfo) -> bool:
        """Whether the members are averaged after this step."""
        return (clock.step + 1) % self.options.every == 0 and not clock.last

    def restart(self, mean_D: Tensor) -> Tensor:
        """The weights (D,) that all members go on from, given the mean of what they trained."""
        return mean_D

    def after_step(self, population: Population, exchange: Exchange, clock: StepInfo) -> None:
        if not self.due(clock):
            return
        population.weights[:] = self.restart(exchange.mean(population.weights))
        if self.options.buffers and population.layout.buffer_size:
            population.buffers[:] = exchange.mean(population.buffers, "buffers")

    def charges(self, site: CommShape, clock: StepInfo) -> Sequence[CommEvent]:
        return mean_charges(site, self.options.buffers) if self.due(clock) else ()
