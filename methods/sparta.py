"""SPARTA: a few random coordinates averaged across the members after every step (EXO Labs 2025).

    b_i ~ Bernoulli(p);   if b_i = 1:  theta_n^i <- (1/N) sum_m theta_m^i      for every n

for every coordinate i of the weights: WASH with a mean in place of the permutation. The rule and
p = 0.005 are those of the authors' code (exo-explore/gym, exogym/strategy/sparta.py), as are its
other selectors, of which one is here: ``partitioned`` splits the coordinates at random into
ceil(1/p) parts of equal size and averages one part after each step, so that every coordinate has
its turn once a cycle; then they are split anew.

The population's mean does not change; the single model is the uniform average at the end. The
optimizer's state is not averaged, nor are, unless asked for, BatchNorm running statistics, since
the code averages parameters only. The last step averages nothing: the average would not move.

Coordinates come from a stream that all members share, keyed by the seed and the step, so that only
the chosen values travel (the published code broadcasts a mask of all coordinates).

Deviations: the coordinates are split as one vector, in the code tensor by tensor. The published
option of averaging stale values is the suite's ``sparta+overlap``, of one step.

Unverified: the paper's text, which was not at hand beyond the abstract (it names 0.05 to 0.5 %).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np

from wash_bench.core.budget import Budget, Scaled, scaled_probability
from wash_bench.core.ledger import CommEvent, Content, charge_mean
from wash_bench.core.method import CommShape, Method, MethodOptions, option
from wash_bench.core.sampling import average_at_, average_charges, draw_coordinates
from wash_bench.core.step_info import StepInfo

if TYPE_CHECKING:
    from torch import Tensor

    from wash_bench.core.exchange import Exchange
    from wash_bench.core.population import Population

Selector = Literal["random", "partitioned"]
SELECTORS = (
    "random: each coordinate with probability p; "
    "partitioned: one of ceil(1/p) random parts after the other"
)


class SpartaOptions(MethodOptions):
    """Settings of SPARTA."""

    p: float = option(
        0.005, "share of the coordinates that is averaged", unit="probability", ge=0, le=1
    )
    selector: Selector = option("random", SELECTORS)
    every: int = option(1, "period of the averages", unit="steps", ge=1)
    buffers: bool = option(
        False, "average BatchNorm running statistics too, coordinates drawn alike"
    )


class Sparta(Method):
    """A few random coordinates replaced by their mean after every step."""

    name = "sparta"
    rule = "with probability p, theta_n^i <- mean of coordinate i over the members, every step"
    paper = "EXO Labs 2025, SPARTA, OpenReview stFPf3gzq1"
    sends = "the chosen weights (p d values a step and member)"
    when = "WASH's control: the same coordinates averaged in place of shuffled"
    needs = "p tuned"
    Options = SpartaOptions
    options: SpartaOptions
    coupling = ("p",)

    def scaled(self, budget: Budget) -> Scaled:
        """The averages of a coordinate, p T / every, kept."""
        return scaled_probability("p", self.options.p, budget)

    def __init__(self, options: MethodOptions | None = None) -> None:
        super().__init__(options)
        self._order: dict[Content, tuple[tuple[int, int, int], np.ndarray]] = {}

    def due(self, clock: StepInfo) -> bool:
        """Whether coordinates are averaged after this step: after steps T, 2T, 3T, ..."""
        return self.options.p > 0 and (clock.step + 1) % self.options.every == 0 and not clock.last

    def after_step(self, population: Population, exchange: Exchange, clock: StepInfo) -> None:
        if exchange.n < 2 or not self.due(clock):
            return
        self._average(population.weights, "weights", exchange, clock)
        if self.options.buffers and population.layout.buffer_size:
            self._average(population.buffers, "buffers", exchange, clock)

    def _average(self, rows: Tensor, content: Content, exchange: Exchange, clock: StepInfo) -> None:
        import torch

        coordinates = self.select(rows.shape[1], content, exchange, clock)
        average_at_(exchange, [(rows, content)], torch.from_numpy(coordinates))

    def select(
        self, size: int, content: Content, exchange: Exchange, clock: StepInfo
    ) -> np.ndarray:
        """The coordinates, of ``size``, that are averaged now: ascending, int64."""
        if self.options.selector == "random":
            rng = exchange.stream(f"sparta {content}", clock.step)
            return draw_coordinates(rng, [(0, size, self.options.p)])
        cycle, part = divmod(self._turn(clock), self.parts(size))
        key = (exchange.seed, cycle, size)
        if content not in self._order or self._order[content][0] != key:
            rng = exchange.stream(f"sparta {content} cycle", cycle)
            self._order[content] = (key, rng.permutation(size))
        return np.sort(self._order[content][1][part :: self.parts(size)])

    def parts(self, size: int) -> int:
        """Number of parts of ``size`` coordinates under the partitioned selector."""
        return min(size, math.ceil(1 / self.options.p - 1e-9))

    def _turn(self, clock: StepInfo) -> int:
        """Averages that came before this one."""
        return (clock.step + 1) // self.options.every - 1

    def charges(self, site: CommShape, clock: StepInfo) -> Sequence[CommEvent]:
        if site.n < 2 or not self.due(clock):
            return ()
        charges = self._expected(site.n, site.layout.size, "weights", clock)
        if self.options.buffers and site.layout.buffer_size:
            charges += self._expected(site.n, site.layout.buffer_size, "buffers", clock)
        return charges

    def _expected(self, n: int, size: int, content: Content, clock: StepInfo) -> list[CommEvent]:
        """The charge of a mean of as many of ``size`` coordinates as are selected on average."""
        if self.options.selector == "random":
            return average_charges(n, [(0, size, self.options.p)], [content])
        parts = self.parts(size)
        return [charge_mean(n, len(range(self._turn(clock) % parts, size, parts)), content)]
