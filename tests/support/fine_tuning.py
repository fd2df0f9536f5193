"""What the tests of fine-tuning share: a network, its checkpoint, a loop from it."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from wash_bench.config import RunConfig, TrainingConfig
from wash_bench.core.exchange import LocalExchange
from wash_bench.methods.naive_ensemble import NaiveEnsemble
from wash_bench.models.build import build_model
from wash_bench.runner.training_setup import TrainingSetup
from wash_bench.train.loop import Loop

HEAD = ("fc.weight", "fc.bias")


def network(classes: int, seed: int = 1) -> nn.Module:
    """The tests' network, its BatchNorm statistics not those of a fresh one."""
    model = build_model("test_resnet", classes=classes, channels=1, size=16, seed_value=seed)
    generator = torch.Generator().manual_seed(seed)
    for name, buffer in model.named_buffers():
        if buffer.is_floating_point():
            buffer.copy_(torch.rand(buffer.shape, generator=generator) + 0.5)
        elif name.endswith("num_batches_tracked"):
            buffer.fill_(77)
    return model


def saved(path: Path, classes: int, seed: int = 1) -> Path:
    save_file(network(classes, seed).state_dict(), path)
    return path


def fine_tuning(tiny: RunConfig, path: Path, **more) -> TrainingConfig:
    given = tiny.training.model_dump() | {"init": f"checkpoint:{path}", "train_limit": 128} | more
    return TrainingConfig.model_validate(given)


def loop_of(config: TrainingConfig, seed: int = 0) -> Loop:
    setting = TrainingSetup.of(config)
    population = setting.population(seed)
    exchange = LocalExchange(population.n, seed)
    recipes = setting.recipes(seed)
    return Loop(
        config,
        NaiveEnsemble(),
        population,
        exchange,
        setting.data,
        recipes,
        seed,
        setting.schedule,
    )


def tensors_of(loop: Loop, row: int) -> dict[str, Tensor]:
    return loop.population.named_tensors(loop.population.state(row))
