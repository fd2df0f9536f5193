"""What is measured of a population: each network once, and what ``metrics.py`` lists."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from wash_bench.config import EvaluationConfig, RunConfig
from wash_bench.errors import CellFailure
from wash_bench.evaluate import evaluator as module
from wash_bench.evaluate.calibration import at_temperature, calibrated_nll, fit_temperature
from wash_bench.evaluate.evaluator import Evaluator
from wash_bench.evaluate.measure import measure_method, measure_population
from wash_bench.evaluate.population_context import PopulationJudge
from wash_bench.evaluate.scores import nll
from wash_bench.methods.greedy_soup import GreedySoup
from wash_bench.methods.wash import Wash
from wash_bench.metrics import ALL, COMPARED, MAIN_TABLE, METRICS
from wash_bench.report.tables.notes import no_numbers
from wash_bench.runner.training_setup import TrainingSetup

CONFIG = EvaluationConfig(
    barrier_points=3, barrier_images=10, barrier_bn_images=32, bn_images=64, ece_bins=5
)


@pytest.mark.parametrize(("model", "size"), [("test_resnet", 16), ("test_vit", 32)])
def test_every_network_is_measured_once(
    tiny: RunConfig, monkeypatch: pytest.MonkeyPatch, model: str, size: int
) -> None:
    """Three members, their average and their soup, though two methods deliver these again."""
    training = tiny.training.model_copy(update={"model": model, "image_size": size})
    setting = TrainingSetup.of(training.model_copy(update={"init": "independent"}))
    evaluator = Evaluator(setting.population(0), setting.data, "off", 0, setting.recipes(0))
    passes: Counter[str] = Counter()
    compute, reestimate = Evaluator.compute, module.reestimate_

    def counted(self, state, split, limit=0):
        passes[f"{split} {limit}"] += 1
        return compute(self, state, split, limit)

    def counted_reestimation(network, batches, amp):
        batches = list(batches)
        passes[f"re-estimation {sum(map(len, batches))}"] += 1
        reestimate(network, batches, amp)

    monkeypatch.setattr(Evaluator, "compute", counted)
    monkeypatch.setattr(module, "reestimate_", counted_reestimation)
    judge = PopulationJudge(evaluator, None, CONFIG.bn_images)
    summary, _, _ = measure_population(evaluator, judge, CONFIG)
    own, _ = measure_method(evaluator, judge, Wash(), CONFIG)
    greedy, _ = measure_method(evaluator, judge, GreedySoup(), CONFIG)
    assert own["method_predictor"] == "average" and greedy["method_predictor"] == "greedy"
    again = 5 if evaluator.has_batchnorm else 0
    assert passes["test 0"] == 5 + again and passes["re-estimation 64"] == again
    for result, name in ((own, "average"), (greedy, "greedy")):
        assert result["method_acc"] == summary[f"{name}_acc"]
        assert result["method_bn_acc"] == summary[f"{name}_bn_acc"]


def test_the_best_member_ensembles_of_each_size_and_further_test_images(tiny: RunConfig) -> None:
    """Against naive restatements on the log-probabilities themselves."""
    changes = {"init": "independent", "train_limit": 100, "subset_seed": "seed"}
    setting = TrainingSetup.of(tiny.training.model_copy(update=changes)).for_seed(5)
    evaluator = Evaluator(setting.population(0), setting.data, "off", 0, setting.recipes(0))
    judge = PopulationJudge(evaluator, None, CONFIG.bn_images)
    config = CONFIG.model_copy(update={"test_pool": "rest"})
    summary, _, outcomes = measure_population(evaluator, judge, config)
    own, delivered = measure_method(evaluator, judge, GreedySoup(), config)

    def of(split):
        each = [evaluator.compute(member, split).exp() for member in judge.members]
        return each, evaluator.labels(split)

    validated, labels = of("val")
    right = [(p.argmax(1) == labels).double().mean().item() for p in validated]
    best = summary["best_member"]
    assert right[best] == max(right)
    tested, labels = of("test")
    assert summary["best_acc"] == pytest.approx(
        100 * (tested[best].argmax(1) == labels).double().mean().item()
    )
    pairs = [(tested[i] + tested[(i + 1) % 3]) / 2 for i in range(3)]
    losses = [-p.gather(1, labels[:, None]).log().mean().item() for p in pairs]
    sizes = [float(value) for value in summary["ensemble_size_nll"].split()]
    assert sizes[1] == pytest.approx(sum(losses) / 3, rel=1e-5)
    assert sizes[0] == pytest.approx(summary["member_nll_mean"], rel=1e-5)
    assert sizes[2] == pytest.approx(summary["ensemble_nll"], rel=1e-5)

    further, labels = of("rest")
    total = sum(len(setting.data.indices[split]) for split in ("train", "val", "rest"))
    assert summary["rest_images"] == len(labels) == total - 100 - setting.data.val_size > 0
    mean = (sum(further) / 3).argmax(1)
    assert summary["rest_ensemble_acc"] == pytest.approx(
        100 * (mean == labels).double().mean().item()
    )
    (soup,) = judge.greedy().states
    again = evaluator.compute(soup, "rest").argmax(1)
    assert own["rest_method_acc"] == pytest.approx(100 * (again == labels).double().mean().item())

    images, (tested, labels) = int(outcomes["images"]), of("test")
    correct = np.unpackbits(outcomes["best_correct"], count=images).astype(bool)
    np.testing.assert_array_equal(correct, (tested[best].argmax(1) == labels).numpy())
    stored = outcomes["ensemble_log_prob"].astype(float)
    expected = (sum(tested) / 3).gather(1, labels[:, None])[:, 0].log().numpy()
    np.testing.assert_allclose(stored, expected, rtol=1e-3, atol=1e-3)
    assert delivered["method_correct"].nbytes + delivered["method_log_prob"].nbytes < 3 * images


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 1000), sharpness=st.floats(0.1, 8.0), images=st.integers(20, 200))
def test_the_temperature_is_the_best_of_a_fine_grid(seed, sharpness, images):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(images, 4, generator=generator, dtype=torch.float64)
    chances = torch.softmax(logits, 1)
    labels = torch.multinomial(chances, 1, generator=generator)[:, 0]
    log_probs = torch.log_softmax(sharpness * logits, 1)
    fitted = fit_temperature(log_probs, labels)
    targets = torch.full_like(log_probs, 1 / (images + 2) / 3)
    targets[torch.arange(images), labels] = (images + 1) / (images + 2)

    def loss(temperature: float) -> float:  # Platt's, written out
        return -(targets * torch.log_softmax(log_probs / temperature, 1)).sum(1).mean().item()

    assert loss(fitted) <= min(map(loss, np.geomspace(0.05, 20, 400))) + 1e-6
    both = (log_probs, labels)
    assert calibrated_nll(both, both) == pytest.approx(
        nll(at_temperature(log_probs, fitted), labels)
    )
    assert math.isnan(calibrated_nll((log_probs * math.nan, labels), both))


@settings(max_examples=25, deadline=None)
@given(images=st.integers(5, 500), classes=st.integers(2, 20), margin=st.floats(0.5, 30.0))
def test_validation_images_that_are_all_right_give_no_certainty(images, classes, margin):
    """Without Platt's targets the temperature falls to its bound, 0.05."""
    labels = torch.arange(images) % classes
    logits = torch.nn.functional.one_hot(labels, classes).double() * margin
    log_probs = torch.log_softmax(logits, 1)
    scaled = at_temperature(log_probs, fit_temperature(log_probs, labels))
    confidence = scaled.exp().max(1).values.mean().item()
    assert confidence == pytest.approx((images + 1) / (images + 2), abs=1e-3)


def _poisoned(tiny: RunConfig, member: int) -> PopulationJudge:
    """A judge of members of which one has a weight that is not a number."""
    setting = TrainingSetup.of(tiny.training.model_copy(update={"init": "independent"}))
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
    assert len({metric.titled for metric in ALL}) == len(METRICS) == len(ALL)
    assert {*MAIN_TABLE, *COMPARED} <= METRICS.keys()
    assert {metric.key for metric in ALL if metric.short} <= {*MAIN_TABLE}
    assert all(metric.digits is None for metric in ALL if metric.per != 1)
