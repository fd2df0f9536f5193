"""Averages of matched members: the rules, their repair, and what they refuse."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from tests.support.judges import judged
from tests.support.permutable_networks import lived_in, shuffled_copy, timm_network, vgg
from wash_bench.core.population import ModelState
from wash_bench.errors import CellFailure
from wash_bench.evaluate.evaluator import Evaluator
from wash_bench.evaluate.population_context import PopulationJudge
from wash_bench.methods.activation_matching import ActivationMatching, ActivationMatchingOptions
from wash_bench.methods.fisher import Fisher, FisherOptions
from wash_bench.methods.regmean import RegMean, RegMeanOptions
from wash_bench.methods.weight_matching import WeightMatching, WeightMatchingOptions
from wash_bench.runner.training_setup import TrainingSetup

RULES = {
    "weight-matching": WeightMatching(),
    "merge-many": WeightMatching(WeightMatchingOptions(reference="all")),
    "activation-matching": ActivationMatching(ActivationMatchingOptions(images=20)),
}


@pytest.mark.parametrize("rule", RULES)
def test_average_of_permuted_copies_is_the_network(rule, images):
    first = lived_in(vgg(), images)
    members = [first, shuffled_copy(first, 5), shuffled_copy(first, 6)]
    population, judge = judged(members, images)
    before = population.weights.clone(), population.buffers.clone()
    method = RULES[rule]
    predictors = method.predictors(population, judge)
    name = method.name
    assert list(predictors) == [name, f"{name}-raw", "average"]
    main, raw, average = (predictor.states[0] for predictor in predictors.values())
    expected = judge.logits(judge.members[0])
    torch.testing.assert_close(judge.logits(raw), expected, rtol=1e-4, atol=1e-5)
    assert (judge.logits(average) - expected).abs().max() > 0.1
    assert torch.equal(main.weights, raw.weights)
    assert torch.equal(main.buffers, judge.reestimated(raw).buffers)
    assert all(predictor.members == (0, 1, 2) for predictor in predictors.values())
    assert torch.equal(before[0], population.weights)
    assert torch.equal(before[1], population.buffers)


@pytest.mark.parametrize("rule", RULES)
def test_equal_members_and_a_single_one_stay_as_they_are(rule, images):
    first = lived_in(vgg(), images)
    scale = torch.tensor([1.0, 3.0, 0.7, 2.0, 1.3, 5.0])[:, None, None, None]
    first.features[0].weight.data[:6] = scale * first.features[0].weight.data[0].clone()
    lived_in(first, images)  # six units alike up to rounding: which is which is a tie
    for value, tensor in ((1, "weight"), (0, "bias")):
        getattr(first.features[1], tensor).data[:6] = value
    first.features[4].bias.data[[1, 4, 7]] = -100  # and three that are never active
    population, judge = judged([first] * 3, images)
    merged = RULES[rule].predictors(population, judge)[f"{RULES[rule].name}-raw"].states[0]
    torch.testing.assert_close(merged.weights, judge.members[0].weights, rtol=0, atol=1e-7)
    torch.testing.assert_close(merged.buffers, judge.members[0].buffers)
    population, judge = judged([first], images)
    merged = RULES[rule].predictors(population, judge)
    assert list(merged) == [RULES[rule].name, "average"]
    assert torch.equal(merged[RULES[rule].name].states[0].weights, judge.members[0].weights)


def test_activation_matching_passes_the_images_once_for_each_further_member(images):
    first = lived_in(vgg(), images)
    population, judge = judged([first, shuffled_copy(first), first], images)
    ActivationMatching().predictors(population, judge)
    assert judge.passes == 2


@pytest.mark.parametrize("rule", ["weight-matching", "activation-matching"])
def test_network_without_batchnorm_is_averaged_without_repair(rule, images):
    members = [nn.Sequential(nn.Flatten(), nn.Linear(12, 5), nn.ReLU(), nn.Linear(5, 3))] * 2
    population, judge = judged(members, images[:, :, :2, :2])
    assert list(RULES[rule].predictors(population, judge)) == [rule, "average"]


@pytest.mark.parametrize(
    ("build", "what"),
    [
        (lambda: timm_network("test_vit", "keep"), "has a graph that depends on its input"),
        (lambda: timm_network("test_convnext", "keep"), "contains"),
        (lambda: timm_network("test_efficientnet", "keep"), "contains"),
        (
            lambda: timm_network(
                "resnext50_32x4d", "keep", channels=[32, 32, 32, 32], layers=[1] * 4
            ),
            "has grouped convolutions ('layer1.0.conv2')",
        ),
    ],
)
def test_other_families_are_refused_in_one_line_that_names_those_that_work(build, what):
    network = build().eval()
    population, judge = judged([network] * 2, torch.zeros(2, 3, 32, 32))
    for rule in RULES.values():
        with pytest.raises(CellFailure) as failure:
            rule.predictors(population, judge)
        line = str(failure.value)
        assert "works for VGG and ResNet" in line and f"this network {what}" in line
        assert "\n" not in line and "another merge rule" in line


def test_repaired_average_regains_the_members_variance(images):
    """Averages of unlike networks have units that vary less; re-estimation rescales them."""
    members = [lived_in(vgg(seed=seed), images) for seed in range(2)]
    population, judge = judged(members, images)
    predictors = WeightMatching().predictors(population, judge)

    def variance(state: ModelState) -> float:
        with torch.no_grad():
            return judge.network(state).features(images).var(dim=(0, 2, 3)).mean().item()

    own = np.mean([variance(state) for state in judge.members])
    repaired, raw = (variance(predictor.states[0]) for predictor in list(predictors.values())[:2])
    assert raw < 0.7 * own
    assert repaired == pytest.approx(own, rel=0.3)


@pytest.mark.slow
def test_rules_run_on_the_suites_own_judge(tiny):
    """Two members that were never trained: what is merged must predict, and nothing is touched."""
    setting = TrainingSetup.of(
        tiny.training.model_copy(update={"population": 2, "init": "independent"})
    )
    population = setting.population(0)
    evaluator = Evaluator(population, setting.data, "off", 0, setting.recipes(0))
    judge = PopulationJudge(evaluator, bn_images=32)
    before = population.weights.clone()
    for rule in (
        WeightMatching(),
        ActivationMatching(ActivationMatchingOptions(images=20)),
        Fisher(FisherOptions(images=8)),
        RegMean(RegMeanOptions(images=20)),
    ):
        predictors = rule.predictors(population, judge)
        assert next(iter(predictors)) == rule.name and len(predictors) == 3
        for predictor in predictors.values():
            (state,) = predictor.states
            assert np.isfinite(judge.validation_loss(state)), rule.name
        weights = predictors[rule.name].states[0].weights
        assert not torch.equal(weights, judge.average().states[0].weights), rule.name
    assert torch.equal(before, population.weights)
