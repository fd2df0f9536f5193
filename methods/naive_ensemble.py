"""Naive ensemble: N networks trained apart, predictions averaged (Lakshminarayanan et al. 2017).

There is no coupling and nothing is sent. The members differ in initialization (unless it is
shared), data order and augmentation. The delivered model averages the members' probabilities and
costs N forward passes; the uniform average of the weights stands beside it as the naive merge
that the coupled methods set out to repair.

Deviation from PAPA's protocol: its published code averages logits (utils/utils.py:169-200), the
suite's predictors average probabilities; the evaluation reports both.
"""

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


class NaiveEnsemble(Method):
    """Independent members; the ensemble of their predictions."""

    name = "naive-ensemble"
    rule = "no coupling; predictions averaged at test time"
    paper = "Lakshminarayanan et al. 2017, arXiv 1612.01474"
    sends = "nothing"

    def training_key(self) -> dict[str, Any]:
        return {"rule": "independent"}

    def after_step(self, population: Population, exchange: Exchange, clock: Clock) -> None:
        """Members never meet."""

    def charges(self, site: Site, clock: Clock) -> Sequence[Charge]:
        return ()

    def predictors(self, population: Population, judge: Judge) -> dict[str, Predictor]:
        return {"ensemble": judge.ensemble(), "average": judge.average()}
