"""The best member against the rule written out."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.support.random_members import FakeJudge, members
from wash_bench.core.population import ModelState
from wash_bench.methods.best_member import BestMember

SCORE = st.sampled_from([50.0, 75.0, 75.5])
LOSS = st.sampled_from([0.1, 0.2, math.inf])


class ScoredJudge(FakeJudge):
    """A judge whose scores are given, member by member."""

    def __init__(self, population, scores: list[tuple[float, float]]) -> None:
        super().__init__(population)
        self.scores = scores

    def _index(self, state: ModelState) -> int:
        (found,) = [i for i, m in enumerate(self.members) if torch.equal(m.weights, state.weights)]
        return found

    def validation_accuracy(self, state: ModelState) -> float:
        return self.scores[self._index(state)][0]

    def validation_loss(self, state: ModelState) -> float:
        return self.scores[self._index(state)][1]


@given(st.lists(st.tuples(SCORE, LOSS), min_size=1, max_size=5))
def test_it_is_the_member_that_none_is_better_than(scores: list[tuple[float, float]]) -> None:
    population = members(len(scores))
    judge = ScoredJudge(population, scores)
    delivered = BestMember().predictors(population, judge)
    assert list(delivered) == ["best-member", "average"]
    (state,), (best,) = delivered["best-member"].states, delivered["best-member"].members
    assert torch.equal(state.weights, population.weights[best])
    accuracy, loss = scores[best]
    for member, (other_accuracy, other_loss) in enumerate(scores):
        assert accuracy >= other_accuracy
        if accuracy == other_accuracy:
            assert loss <= other_loss
            assert loss < other_loss or best <= member


@pytest.mark.slow
def test_a_run_delivers_it(tiny, tmp_path) -> None:
    from tests.support.runs import entries_of, records_of
    from wash_bench.runner.context import RunContext
    from wash_bench.runner.experiment import run_experiment

    outcome = run_experiment(
        tiny, entries_of("best-member", "naive-ensemble"), RunContext(out=tmp_path, threads=1)
    )
    assert not outcome.failed
    best = records_of(tmp_path)["best-member", 0]["summary"]
    assert best["method_predictor"] == "best-member"
    assert best["member_acc_min"] <= best["method_acc"] <= best["member_acc_max"]
    assert best["method_val_acc"] >= best["member_val_acc_mean"]
