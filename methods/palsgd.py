"""PALSGD: DiLoCo whose members are now and then drawn to the global weights (2504.18454).

With probability p a step takes no gradient, but is a pseudo-synchronization with what the member
knows of the others, the global weights phi of the last outer step, without sending anything; the
other steps are longer for it:

    with probability p:   theta_n <- theta_n - (lr / p) eta (theta_n - phi)
    else:                 theta_n <- theta_n - lr / (1 - p) u_n     u_n: the optimizer's update
    every H steps:        phi <- OuterOpt(phi, phi - mean), theta_n <- phi for every n

The rule is that of the authors' code (Hiroki11x/Pseudo-Asynchronous-LocalSGD, commit 2c37c48), with
p of 0.1 to 0.2; its outer step is DiLoCo's, of which this is a subclass, as are the common start
and the merge. With p = 0 it is DiLoCo. That code pulls the first tensor only, through a zip with a
list of one element; here all weights are pulled.

Deviations: the loop takes the optimizer's step before it asks the method, so that a gradient is
computed in a pseudo-synchronization too; its effect on the weights is taken back, that on the
optimizer's momentum stays, and nothing is saved. Each member remembers the weights that its step
began with. One draw a step serves all members. A pull is at most the whole way, eta lr <= p.

The published code defaults to eta = 0.5 and H = 100; its example command has 1 and 32. All its
ranks are seeded alike, so that members draw together, as here. Unverified: the paper's own eta and
H; its text was not at hand.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

from wash_bench.core.method import Rows, option
from wash_bench.core.step_info import StepInfo
from wash_bench.methods.diloco import Diloco, DilocoOptions

if TYPE_CHECKING:
    from wash_bench.core.exchange import Exchange
    from wash_bench.core.population import Population

UNKNOWN = "the paper's value is not known"


class PalsgdOptions(DilocoOptions):
    """Settings of PALSGD."""

    every: int = option(
        100,
        "H, steps between two outer steps",
        unit="steps",
        unverified=UNKNOWN,
        ge=1,
    )
    p: float = option(
        0.1, "share of the steps that are pseudo-synchronizations", unit="probability", ge=0, lt=1
    )
    eta: float = option(1.0, "strength of the pull to phi", unverified=UNKNOWN, ge=0)


class Palsgd(Diloco):
    """DiLoCo with random steps back towards the global weights instead of gradient steps."""

    name = "palsgd"
    rule = (
        "with probability p theta_n <- theta_n - (lr/p) eta (theta_n - phi), else a step at "
        "lr/(1 - p); DiLoCo's outer step every H steps"
    )
    paper = "PALSGD 2025, arXiv 2504.18454"
    when = "DiLoCo with rarer outer steps: members are held near the last global weights meanwhile"
    needs = "one more vector a member; eta tuned, as its value is not known"
    Options = PalsgdOptions
    options: PalsgdOptions  # pyright: ignore[reportIncompatibleVariableOverride]
    member_state: ClassVar[Mapping[str, Rows]] = {"before": "weights"}

    def start(self, population: Population, exchange: Exchange) -> None:
        super().start(population, exchange)
        population.member_state["before"].copy_(population.weights)

    def after_step(self, population: Population, exchange: Exchange, clock: StepInfo) -> None:
        p, theta, before = self.options.p, population.weights, population.member_state["before"]
        if p and exchange.stream("pseudo", clock.step).random() < p:
            pull = min(1.0, clock.lr / p * self.options.eta)
            theta.copy_(before.lerp(self._memory["global"].expand_as(before), pull))
        elif p:
            theta.copy_(before.lerp(theta, 1 / (1 - p)))
        super().after_step(population, exchange, clock)
        before.copy_(theta)
