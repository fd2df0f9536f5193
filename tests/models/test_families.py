"""Every network family trains under every method, and what is sent is what arithmetic says."""

from __future__ import annotations

import pytest
import timm
import torch

from wash_bench.config import DEFAULT_METHODS, RunConfig
from wash_bench.core.exchange import LocalExchange
from wash_bench.core.method import CommShape, predict_comm
from wash_bench.core.population import ModelState
from wash_bench.evaluate.evaluator import Evaluator
from wash_bench.plugins.registry import find_method, make_method
from wash_bench.runner.training_setup import TrainingSetup
from wash_bench.train.loop import Loop

FAMILIES = {
    "resnet": ("test_resnet", "keep", {}),
    "resnet, CIFAR stem": ("resnet18", "cifar", {"channels": [8, 8, 16, 16]}),
    "vgg, CIFAR stem": ("vgg11_bn", "cifar", {}),
    "convnext": ("test_convnext", "keep", {}),
    "vit": ("test_vit", "keep", {}),
    "efficientnet": ("test_efficientnet", "keep", {}),
    "mobilenet": ("mobilenetv3_small_050", "keep", {}),
}
OPTIONS = {"wash": {"p": 0.02}, "wash-opt": {"p": 0.02}, "dart": {"every": 1, "warmup": 0.0}}


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_family_trains_two_epochs_of_two_steps_under_every_method(
    tiny: RunConfig, family: str
) -> None:
    model, stem, model_args = FAMILIES[family]
    config = tiny.training.model_copy(
        update={
            "model": model,
            "stem": stem,
            "model_args": model_args,
            "image_size": 32,
            "train_limit": 12,
            "val_share": 0.01,
            "batch_size": 6,
            "population": 2,
            "lr": 0.01,
            "init": "independent",
        }
    )
    setting = TrainingSetup.of(config)
    assert setting.schedule.steps == 4
    for name in DEFAULT_METHODS:
        method = make_method(find_method(name), OPTIONS.get(name, {}))
        population = setting.population(0)
        before = population.weights.clone()
        exchange = LocalExchange(2, 0)
        recipes = setting.recipes(0)
        loop = Loop(
            config, method, population, exchange, setting.data, recipes, 0, setting.schedule
        )
        for epoch in range(2):
            losses = loop.epoch(epoch, lambda pulse: None)
            assert torch.isfinite(losses).all(), name
        assert (population.weights != before).any(dim=1).all(), name

        site = CommShape(population.layout, 2, len(population.optimizer_state))
        expected = predict_comm(method, site, setting.schedule)
        if expected.sent_values_std:
            error = abs(exchange.ledger.sent_values - expected.sent_values)
            assert error < 5 * expected.sent_values_std, name
        else:
            assert exchange.ledger.as_dict() == expected.as_dict(), name

        evaluator = Evaluator(population, setting.data, "off", 0, recipes)
        average = ModelState.mean(population.states())
        fresh = evaluator.reestimated(average, 12)
        assert torch.isfinite(evaluator.compute(fresh, "val")).all(), name
        assert (fresh is average) == (family in ("convnext", "vit"))  # no BatchNorm there


def test_weights_exported_from_a_row_load_into_timm(tiny: RunConfig) -> None:
    """Names, shapes and memory order are the architecture's own, channels-last or not."""
    for channels_last in (True, False):
        setting = TrainingSetup.of(
            tiny.training.model_copy(update={"channels_last": channels_last})
        )
        population = setting.population(0)
        plain = timm.create_model("test_resnet", num_classes=10, in_chans=1)
        plain.load_state_dict(population.named_tensors(population.state(1)), strict=True)
        images = torch.randn(2, 1, 16, 16)
        ours = population.modules[1].eval()(images)
        torch.testing.assert_close(plain.eval()(images), ours, rtol=1e-5, atol=1e-6)
