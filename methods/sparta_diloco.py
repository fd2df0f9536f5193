"""SPARTA+DiLoCo: a sparse mean after every step, an outer step every H (EXO Labs 2025).

Both rules in turn, as in the authors' code (exo-explore/gym, exogym/strategy/sparta_diloco.py):

    after every step:   theta_n^i <- mean of coordinate i, for a random share p of the coordinates
    every H steps:      theta_n <- OuterOpt(theta_global, theta_global - mean)

The sparse means keep the members together, which is said to allow a far longer H. They do not
move the population's mean, hence the outer optimizer sees what it would see in DiLoCo.

Weights take part in both, BatchNorm running statistics in the outer step only, where they are
averaged; the rest is as in sparta.py and diloco.py. Defaults p = 0.005 and H = 100 are the
code's.

Deviation: the published code keeps the period of the sparse means, but never reads it
(``sparta_interval``); here ``sparse_every`` is obeyed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from wash_bench.core.ledger import CommEvent
from wash_bench.core.method import CommShape, MethodOptions, option
from wash_bench.core.step_info import StepInfo
from wash_bench.methods.diloco import Diloco, DilocoOptions
from wash_bench.methods.sparta import SELECTORS, Selector, Sparta, SpartaOptions

if TYPE_CHECKING:
    from wash_bench.core.exchange import Exchange
    from wash_bench.core.population import Population


class SpartaDilocoOptions(DilocoOptions):
    """Settings of SPARTA+DiLoCo."""

    every: int = option(100, "H, inner steps between two outer steps", unit="steps", ge=1)
    p: float = option(
        0.005, "share of the coordinates that is averaged", unit="probability", ge=0, le=1
    )
    selector: Selector = option("random", SELECTORS)
    sparse_every: int = option(1, "period of the sparse averages", unit="steps", ge=1)


class SpartaDiloco(Diloco):
    """SPARTA between the outer steps of DiLoCo."""

    name = "sparta-diloco"
    rule = "SPARTA after every step, then DiLoCo's outer step every H"
    paper = "EXO Labs 2025, SPARTA, OpenReview stFPf3gzq1"
    sends = "one copy of the common start, p d values a step, and all weights every H steps"
    when = "DiLoCo with longer periods: sparse means hold the members together meanwhile"
    needs = "as diloco; p and H tuned"
    Options = SpartaDilocoOptions
    options: SpartaDilocoOptions  # pyright: ignore[reportIncompatibleVariableOverride]

    def __init__(self, options: MethodOptions | None = None) -> None:
        super().__init__(options)
        own = self.options
        self.sparta = Sparta(SpartaOptions(p=own.p, selector=own.selector, every=own.sparse_every))

    def after_step(self, population: Population, exchange: Exchange, clock: StepInfo) -> None:
        self.sparta.after_step(population, exchange, clock)
        super().after_step(population, exchange, clock)

    def charges(self, site: CommShape, clock: StepInfo) -> Sequence[CommEvent]:
        return [*super().charges(site, clock), *self.sparta.charges(site, clock)]
