"""Every network family trains two epochs under every method, and is measured, end to end."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from wash_bench.config import DEFAULT_METHODS, RunConfig
from wash_bench.registry import find_method
from wash_bench.runner.experiment import run_experiment

FAMILIES = {
    "resnet": ("test_resnet", "keep", {}),
    "resnet with the CIFAR stem": (
        "resnet18",
        "cifar",
        {"layers": [1, 1, 1, 1], "channels": [8, 8, 16, 16]},
    ),
    "vgg": ("vgg11_bn", "cifar", {}),
    "convnext": ("test_convnext", "keep", {}),
    "vit": ("test_vit", "keep", {}),
    "efficientnet": ("test_efficientnet", "keep", {}),
    "mobilenet": ("mobilenetv3_small_050", "keep", {}),
}


@pytest.mark.parametrize("family", FAMILIES)
def test_family_trains_under_every_method(tiny: RunConfig, tmp_path: Path, family: str) -> None:
    model, stem, model_args = FAMILIES[family]
    training = tiny.training.model_copy(
        update={
            "model": model,
            "stem": stem,
            "model_args": model_args,
            "image_size": 32,
            "train_limit": 40,
            "batch_size": 16,
            "population": 2,
            "lr": 0.01,
            "init": "independent",
        }
    )
    evaluation = tiny.evaluation.model_copy(update={"barrier_images": 20, "bn_images": 16})
    config = tiny.model_copy(
        update={
            "training": training,
            "evaluation": evaluation.model_copy(update={"barrier_bn_images": 16}),
            "set": {
                "wash": {"p": 0.2},
                "wash-opt": {"p": 0.2},
                "dart": {"every": 1, "warmup": 0.0},
            },
        }
    )
    entries = [find_method(name) for name in DEFAULT_METHODS]
    outcome = run_experiment(config, entries, tmp_path)
    assert not outcome.failed
    assert len(outcome.finished) == 6
    summaries = {}
    for path in (tmp_path / "cells").glob("*.json"):
        record = json.loads(path.read_text())
        summaries[record["method"]] = record["summary"]
    for method, summary in summaries.items():
        assert 0 <= summary["average_acc"] <= 100, method
        assert summary["consensus_distance"] > 0, method
    assert summaries["wash"]["sent_values_total"] > 0
    if family in ("convnext", "vit"):  # no BatchNorm: re-estimation is the identity
        assert summaries["wash"]["average_acc"] == summaries["wash"]["average_bn_acc"]


def test_weights_exported_from_a_row_load_into_timm(tiny: RunConfig) -> None:
    """Names, shapes and memory order are the architecture's own, channels-last or not."""
    import timm

    from wash_bench.runner.setting import Setting

    for channels_last in (True, False):
        setting = Setting.of(tiny.training.model_copy(update={"channels_last": channels_last}))
        population = setting.population(0)
        plain = timm.create_model("test_resnet", num_classes=10, in_chans=1)
        plain.load_state_dict(population.named_tensors(population.state(1)), strict=True)
        images = torch.randn(2, 1, 16, 16)
        ours = population.modules[1].eval()(images)
        torch.testing.assert_close(plain.eval()(images), ours, rtol=1e-5, atol=1e-6)
