"""Lookahead: k steps forward, one step back (Zhang et al. 2019, arXiv 1907.08610, algorithm 1).

Each member has slow weights phi_n. After every k-th step of the fast weights (and after the
method inside has coupled the members):

    phi_n   <- phi_n + alpha (theta_n - phi_n)
    theta_n <- phi_n

The optimizer's momentum is kept. The slow weights are what is measured. BatchNorm running
statistics stay those of the fast weights. Nothing is sent.

Around a coupled method the fast weights are the coupled ones, so that with PAPA, for example, the
pull acts within the k steps. The slow weights of a member that does not train yet are its weights.

Unverified: k and alpha are recalled.
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

RECALLED = "recalled, not checked against the paper"


class LookaheadOptions(MethodOptions):
    """Settings of Lookahead."""

    every: int = option(
        5, "k, fast steps for each slow one", unit="steps", unverified=RECALLED, ge=1
    )
    alpha: float = option(0.5, "step of the slow weights", unverified=RECALLED, gt=0, le=1)


class Lookahead(Wrapper):
    """Each member steps back towards its slow weights every k steps."""

    name = "lookahead"
    rule = "every k steps phi_n <- phi_n + alpha (theta_n - phi_n), theta_n <- phi_n"
    paper = "Zhang et al. 2019, arXiv 1907.08610"
    when = "steadier steps, around any training rule"
    needs = "one more vector a member"
    Options = LookaheadOptions
    options: LookaheadOptions
    member_state: ClassVar[Mapping[str, Rows]] = {"slow": "weights"}

    def start(self, population: Population, exchange: Exchange) -> None:
        super().start(population, exchange)
        self.follow(population)

    def after_step(self, population: Population, exchange: Exchange, clock: StepInfo) -> None:
        super().after_step(population, exchange, clock)
        self.follow(population, self.idle(population, exchange, clock))
        if (clock.step + 1) % self.options.every == 0:
            slow = population.member_state["slow"]
            slow.lerp_(population.weights, self.options.alpha)
            population.weights.copy_(slow)

    def evaluated(self, population: Population) -> Population:
        slow = population.member_state["slow"]
        return population.with_rows(slow, population.buffers, population.counters)
