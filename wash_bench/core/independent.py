"""Members that never meet: the naive ensemble, and what a wrapper by itself goes around."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from wash_bench.core.clock import Clock
from wash_bench.core.ledger import Charge
from wash_bench.core.method import Method, Site

if TYPE_CHECKING:
    from wash_bench.core.exchange import Exchange
    from wash_bench.core.judge import Judge, Predictor
    from wash_bench.core.population import Population


class Independent(Method):
    """Independent members; the ensemble of their predictions, and the average of their weights."""

    name = "independent"
    rule = "no coupling"
    paper = "none"
    sends = "nothing"

    def training_key(self) -> dict[str, Any]:
        return {"rule": "independent"}

    def after_step(self, population: Population, exchange: Exchange, clock: Clock) -> None:
        """Members never meet."""

    def charges(self, site: Site, clock: Clock) -> Sequence[Charge]:
        return ()

    def predictors(self, population: Population, judge: Judge) -> dict[str, Predictor]:
        return {"ensemble": judge.ensemble(), "average": judge.average()}
