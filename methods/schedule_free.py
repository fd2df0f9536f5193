"""Schedule-Free SGD (Defazio et al. 2024, arXiv 2405.15682, equations 1 to 3).

Gradients are taken at y, steps are made on z, and x, the running mean of z, is what is measured:

    z_{t+1} = z_t - gamma grad f(y_t)
    x_{t+1} = (1 - 1/(t+1)) x_t + 1/(t+1) z_{t+1}          t from 0
    y_{t+1} = (1 - beta) z_{t+1} + beta x_{t+1}

There is no momentum and no schedule: gamma = scale * lr_0 throughout. The members' weights are y;
the loop's step on them tells the gradient (weight decay included, which therefore acts at y, as
in the published package), and its momentum buffer is emptied after every step. What a step at a
tiny rate does to a weight is lost to the rounding of float32, and the gradient with it: where the
run's schedule is below 1e-4 of the base rate (the last 0.6 % of a cosine to 0), z stands still.
``--schedule constant`` has every step.

Around a coupled method, the coupling acts on y, and x and z are moved by as much.

Choices: z and x in full for each member, two vectors beside the weights. BatchNorm statistics are
those gathered at y; the published README asks for new ones at x, which are the columns with
re-estimated statistics. The package's warm-up is left out.

Verified: the equations, beta = 0.9, the weights 1/(t+1) at a constant rate and the advice to take
10 to 50 times the rate of SGD with momentum, in the package's documentation. AdamW is refused: its
first moment cannot be taken out afterwards.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from wash_bench.core.method import MethodOptions, Rows, option
from wash_bench.core.step_info import StepInfo
from wash_bench.core.wrapper import Wrapper
from wash_bench.errors import CellFailure

if TYPE_CHECKING:
    from collections.abc import Mapping

    from wash_bench.core.exchange import Exchange
    from wash_bench.core.population import Population


LEAST = 1e-4  # of the base rate; gradients of smaller steps cannot be read


class ScheduleFreeOptions(MethodOptions):
    """Settings of Schedule-Free SGD."""

    beta: float = option(0.9, "share of the mean x in y", gt=0, lt=1)
    scale: float = option(
        10.0,
        "gamma in units of the run's learning rate",
        unverified="the least of the documentation's 10 to 50",
        gt=0,
    )


class ScheduleFree(Wrapper):
    """Each member trained without a schedule and measured at the running mean of its steps."""

    name = "schedule-free"
    rule = "z <- z - gamma grad f(y), x <- mean of z, y <- (1 - beta) z + beta x; x is measured"
    paper = "Defazio et al. 2024, arXiv 2405.15682"
    when = "trainings whose length is not known: no schedule"
    needs = "SGD; --schedule constant; two more vectors a member"
    Options = ScheduleFreeOptions
    options: ScheduleFreeOptions
    member_state: ClassVar[Mapping[str, Rows]] = {"x": "weights", "z": "weights"}

    def start(self, population: Population, exchange: Exchange) -> None:
        super().start(population, exchange)
        if "exp_avg" in population.optimizer_state:
            raise CellFailure("schedule-free is made for SGD: give --optimizer sgd")
        self.follow(population)

    def after_step(self, population: Population, exchange: Exchange, clock: StepInfo) -> None:
        beta, x, z = self.options.beta, population.member_state["x"], population.member_state["z"]
        y = population.weights
        before = z.lerp(x, beta)
        if clock.lr >= LEAST * clock.base_lr:
            z.add_(y - before, alpha=self.options.scale * clock.base_lr / clock.lr)
        x.lerp_(z, 1 / (clock.step + 1))
        y.copy_(z.lerp(x, beta))
        for momentum in population.optimizer_state.values():
            momentum.zero_()

        stepped = y.clone()
        super().after_step(population, exchange, clock)
        moved = y - stepped
        x.add_(moved)
        z.add_(moved)
        y.copy_(z.lerp(x, beta))

    def evaluated(self, population: Population) -> Population:
        x = population.member_state["x"]
        return population.with_rows(x, population.buffers, population.counters)
