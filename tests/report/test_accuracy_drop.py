"""Why an average falls below its members: likeness of weights, and what the numbers say."""

from __future__ import annotations

import pytest
import timm
import torch
from torch import nn

from wash_bench.core.population import Population
from wash_bench.evaluate.similarity import weight_cosine
from wash_bench.report.numbers.diagnosis import diagnose_drop


def test_equal_starts_have_a_cosine_near_one_and_other_starts_near_zero():
    def build(seed: int) -> nn.Module:
        torch.manual_seed(seed)
        return timm.create_model("test_resnet", num_classes=3)

    assert weight_cosine(Population(lambda _: build(0), 3)) == pytest.approx(1, abs=1e-5)
    assert abs(weight_cosine(Population(build, 3))) < 0.05


FALL = {"average_acc": 40.0, "member_acc_mean": 90.0, "average_bn_acc": 45.0,
        "member_bn_acc_mean": 91.0, "barrier_loss_max": 2.0, "weight_cosine": 0.01}  # fmt: skip


def test_the_cause_follows_the_numbers():
    assert "started apart" in diagnose_drop(
        FALL, 10
    ) and "basin: the loss barrier" in diagnose_drop(FALL, 10)
    assert "started apart" not in diagnose_drop(FALL | {"weight_cosine": 0.8}, 10)
    lag = diagnose_drop(
        FALL | {"average_bn_acc": 88.0, "weight_cosine": 0.8, "barrier_loss_max": 1.0}, 10
    )
    assert "BatchNorm" in lag and "basin" not in lag
    assert diagnose_drop(FALL | {"average_acc": 85.0}, 10) == ""
    assert diagnose_drop(FALL | {"average_acc": 85.0}, 1) != ""
    plain = diagnose_drop(FALL | {"barrier_loss_max": 0.01}, 10)
    assert "basin" not in plain and "apart" not in plain and "40.0 %" in plain
