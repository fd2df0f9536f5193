"""What Fisher-weighted averaging and RegMean have in common."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from tests.support.judges import judged
from tests.support.small_members import TwoLayers, naive_fisher, networks, pictures, small
from wash_bench.merging.fisher import diagonal_fisher
from wash_bench.methods.fisher import Fisher
from wash_bench.methods.regmean import RegMean


@pytest.mark.parametrize("rule", [Fisher, RegMean])
def test_equal_members_are_a_fixed_point_and_one_member_stays_itself(rule):
    for n in (1, 3):
        population, judge = judged(networks(1) * n, *pictures())
        merged = rule().predictors(population, judge)[rule.name].states[0]
        torch.testing.assert_close(merged.weights, judge.members[0].weights, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(merged.buffers, judge.members[0].buffers)


@pytest.mark.parametrize("rule", [Fisher, RegMean])
def test_predictors_are_the_merge_its_reestimated_form_and_the_average(rule):
    population, judge = small(2)
    before = population.weights.clone(), population.buffers.clone()
    predictors = rule().predictors(population, judge)
    assert list(predictors) == [rule.name, f"{rule.name}-reestimated", "average"]
    merged, fresh = (predictors[name].states[0] for name in list(predictors)[:2])
    assert torch.equal(merged.weights, fresh.weights)
    assert torch.equal(fresh.buffers, judge.reestimated(merged).buffers)
    assert not torch.equal(fresh.buffers, merged.buffers)
    assert all(predictor.members == (0, 1) for predictor in predictors.values())
    assert torch.equal(before[0], population.weights)
    assert torch.equal(before[1], population.buffers)
    bare, judge = judged(networks(2, lambda: TwoLayers(nn.Linear(4, 3))), *pictures())
    assert list(rule().predictors(bare, judge)) == [rule.name, "average"]


def test_fisher_takes_the_families_that_the_suite_trains():
    from wash_bench.models.build import build_model

    for name in ("test_vit", "test_convnext", "test_efficientnet"):
        network = build_model(name, classes=3, channels=3, size=32, stem="keep", seed_value=0)
        network.eval()
        images, labels = pictures(2, 32)
        got = diagonal_fisher(network, [(images, labels)], "true")
        expected = naive_fisher(network, images, labels, "true")
        for key, value in expected.items():
            np.testing.assert_allclose(got[key], value, rtol=2e-2, atol=1e-6, err_msg=key)
