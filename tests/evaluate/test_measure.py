"""What is measured of a population: each network once, and what ``metrics.py`` lists."""

from __future__ import annotations

import math
from collections import Counter

import pandas as pd
import pytest

from wash_bench.config import EvaluationConfig, RunConfig
from wash_bench.errors import CellFailure
from wash_bench.evaluate.evaluator import Evaluator
from wash_bench.evaluate.measure import measure_method, measure_population
from wash_bench.evaluate.population_judge import PopulationJudge
from wash_bench.methods.greedy_soup import GreedySoup
from wash_bench.methods.wash import Wash
from wash_bench.metrics import (
    COMPARED,
    DERIVED,
    FURTHER,
    MAIN_TABLE,
    METRICS,
    OF_CORRUPTIONS,
    OF_MERGES,
    SUMMARY,
)
from wash_bench.report.tables.notes import no_numbers
from wash_bench.runner.setting import Setting

CONFIG = EvaluationConfig(
    barrier_points=3, barrier_images=10, barrier_bn_images=32, bn_images=64, ece_bins=5
)


@pytest.mark.parametrize(("model", "size"), [("test_resnet", 16), ("test_vit", 32)])
def test_every_network_is_measured_once(
    tiny: RunConfig, monkeypatch: pytest.MonkeyPatch, model: str, size: int
) -> None:
    """Three members, their average and their soup, though two methods deliver these again."""
    training = tiny.training.model_copy(update={"model": model, "image_size": size})
    setting = Setting.of(training.model_copy(update={"init": "independent"}))
    evaluator = Evaluator(setting.population(0), setting.data, "off", 0, setting.recipes(0))
    passes: Counter[str] = Counter()
    compute, reestimated = Evaluator.compute, Evaluator.reestimated

    def counted(self, state, split, limit=0):
        passes[f"{split} {limit}"] += 1
        return compute(self, state, split, limit)

    def counted_reestimation(self, state, images):
        passes[f"re-estimation {images}"] += 1
        return reestimated(self, state, images)

    monkeypatch.setattr(Evaluator, "compute", counted)
    monkeypatch.setattr(Evaluator, "reestimated", counted_reestimation)
    judge = PopulationJudge(evaluator, None, CONFIG.bn_images)
    summary, _ = measure_population(evaluator, judge, CONFIG)
    own = measure_method(evaluator, judge, Wash(), CONFIG)
    greedy = measure_method(evaluator, judge, GreedySoup(), CONFIG)
    assert own["method_predictor"] == "average" and greedy["method_predictor"] == "greedy"
    again = 5 if evaluator.has_batchnorm else 0
    assert passes["test 0"] == 5 + again and passes["re-estimation 64"] == again
    for result, name in ((own, "average"), (greedy, "greedy")):
        assert result["method_acc"] == summary[f"{name}_acc"]
        assert result["method_bn_acc"] == summary[f"{name}_bn_acc"]


def _poisoned(tiny: RunConfig, member: int) -> PopulationJudge:
    """A judge of members of which one has a weight that is not a number."""
    setting = Setting.of(tiny.training.model_copy(update={"init": "independent"}))
    population = setting.population(0)
    population.weights[member, 0] = math.nan
    evaluator = Evaluator(population, setting.data, "off", 0, setting.recipes(0))
    return PopulationJudge(evaluator, None, CONFIG.bn_images)


def test_a_member_without_numbers_fails_by_name_before_any_choice(tiny: RunConfig) -> None:
    judge = _poisoned(tiny, 1)
    with pytest.raises(CellFailure, match="member 1 are not numbers on the validation images"):
        measure_population(judge._evaluator, judge, CONFIG)
    assert math.isnan(judge.validation_accuracy(judge.members[1]))
    assert 1 not in judge.greedy().members


def test_an_average_without_numbers_has_no_validation_accuracy(tiny: RunConfig) -> None:
    judge = _poisoned(tiny, 0)
    average = judge.average().states[0]
    assert math.isnan(judge.validation_accuracy(average))
    cells = pd.DataFrame({"variant": ["wash"] * 2, "seed": [0, 1], "average_acc": [math.nan, 80.0],
                          "member_acc_mean": [80.0, 81.0]})  # fmt: skip
    (line,) = no_numbers(cells)
    assert line.startswith("wash: the outputs of the average are not numbers at seed 0,")


def test_the_table_of_metrics_has_each_once_and_its_views_know_them() -> None:
    rows = [*SUMMARY, *FURTHER, *OF_CORRUPTIONS, *OF_MERGES, *DERIVED]
    assert len({metric.key for metric in rows}) == len({metric.titled for metric in rows})
    assert len(METRICS) == len(rows)
    assert [metric.key for metric in FURTHER] == sorted(metric.key for metric in FURTHER)
    assert {*MAIN_TABLE, *COMPARED} <= METRICS.keys()
    assert {metric.key for metric in rows if metric.short} <= {*MAIN_TABLE}
    assert all(metric.digits is None for metric in rows if metric.per != 1)
