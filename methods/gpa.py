"""GPA: generalized primal averaging (Defazio et al. 2025, arXiv 2512.17131).

Gradients are taken at y, the base optimizer's steps are made on z, and x, a moving average of z, is
what is measured:

    y_t     = mu_y x_t + (1 - mu_y) z_t
    z_{t+1} = z_t + u_t                                u_t: the run's optimizer's step for the
    x_{t+1} = mu_x x_t + (1 - mu_x) z_{t+1}            gradient at y_t, at the schedule's rate

It smooths single-worker DiLoCo: mu_x = 0.9967 stands for 32 inner steps. Two limits are stated in
the authors' own tests: mu_x = 0 is the base optimizer, mu_x = 1 - 1/t (``averaging = uniform``) is
Schedule-Free. Momentum is the base optimizer's and is kept, unlike in schedule_free.py.

The members' weights are y; what a step moved them by moves z. Around a coupled method, the coupling
acts on y, and x and z are moved by as much.

Choices: z and x in full for each member, two vectors beside the weights (the authors keep one, as x
follows from y and z). Weight decay acts at y, within the run's optimizer's step, which moves z:
neither of the authors' two modes, in which z decays by itself, or by y on request.
BatchNorm statistics are those gathered at y; the columns with re-estimated statistics are x's.

Verified in the authors' documentation (facebookresearch/optimizers, gpa/README.md, commit f606606):
the equations and the defaults mu_y = 0.7 and mu_x = 0.9967, for AdamW and language models.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from wash_bench.core.method import MethodOptions, Rows, option
from wash_bench.core.step_info import StepInfo
from wash_bench.core.wrapper import Wrapper

if TYPE_CHECKING:
    from collections.abc import Mapping

    from wash_bench.core.exchange import Exchange
    from wash_bench.core.population import Population


class GpaOptions(MethodOptions):
    """Settings of generalized primal averaging."""

    mu_y: float = option(0.7, "share of x where gradients are taken", ge=0, le=1)
    mu_x: float = option(0.9967, "share that x keeps of itself each step", ge=0, lt=1)
    averaging: Literal["constant", "uniform"] = option(
        "constant", "mu_x throughout, or 1 - 1/t, which makes x the mean of all z"
    )


class Gpa(Wrapper):
    """Each member trained at a mixture of its steps and their average, which is measured."""

    name = "gpa"
    rule = "z <- z + step at y, x <- mu_x x + (1 - mu_x) z, y <- mu_y x + (1 - mu_y) z; x measured"
    paper = "Defazio et al. 2025, arXiv 2512.17131"
    when = "a smooth single-worker DiLoCo, around any training rule"
    needs = "two more vectors a member"
    Options = GpaOptions
    options: GpaOptions
    member_state: ClassVar[Mapping[str, Rows]] = {"gpa x": "weights", "gpa z": "weights"}

    def mu_x(self, clock: StepInfo) -> float:
        """The share that x keeps of itself after this step."""
        t = clock.step + 1
        return 1 - 1 / t if self.options.averaging == "uniform" else self.options.mu_x

    def start(self, population: Population, exchange: Exchange) -> None:
        super().start(population, exchange)
        self.follow(population)

    def after_step(self, population: Population, exchange: Exchange, clock: StepInfo) -> None:
        x, z = (population.member_state[name] for name in self.member_state)
        y, mu_y = population.weights, self.options.mu_y
        z.add_(y - z.lerp(x, mu_y))
        x.lerp_(z, 1 - self.mu_x(clock))
        y.copy_(z.lerp(x, mu_y))

        stepped = y.clone()
        super().after_step(population, exchange, clock)
        moved = y - stepped
        x.add_(moved)
        z.add_(moved)
        y.copy_(z.lerp(x, mu_y))
        self.follow(population, self.idle(population, exchange, clock))

    def evaluated(self, population: Population) -> Population:
        x = population.member_state["gpa x"]
        return population.with_rows(x, population.buffers, population.counters)
