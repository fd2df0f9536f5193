"""Sharpness-aware minimization against Algorithm 1 of arXiv 2010.01412, tensor by tensor."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from tests.support.command import command
from tests.support.training_loop import loop_of
from wash_bench.config import RunConfig, TrainingConfig
from wash_bench.data.source import Batch
from wash_bench.seeds import derive

STEPS, MEMBER = 3, 1
SCALE = 1024.0  # of fp16's losses, whose small gradients would be lost


def sam_in_plain_torch(
    config: TrainingConfig, model: nn.Module, batches: list[Batch], rates: list[float]
) -> None:
    """Steps of a network, the ascent taken and taken back parameter by parameter."""
    model.train()
    parameters = list(model.parameters())
    norms = [layer for layer in model.modules() if isinstance(layer, nn.BatchNorm2d)]
    optimizer = (
        torch.optim.AdamW(parameters, lr=1.0, weight_decay=config.weight_decay)
        if config.optimizer == "adamw"
        else torch.optim.SGD(
            parameters, lr=1.0, momentum=config.momentum, weight_decay=config.weight_decay
        )
    )
    dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(config.amp)

    def gradients(batch: Batch, step: int) -> list[torch.Tensor]:
        torch.manual_seed(derive(0, "forward", MEMBER, step))
        total = [torch.zeros_like(p) for p in parameters]
        parts = (tensor.chunk(config.accumulate) for tensor in batch)
        for image, target in zip(*parts, strict=True):
            with torch.autocast("cpu", dtype, enabled=dtype is not None):
                scores = model(image)
            loss = SCALE * F.cross_entropy(scores.float(), target) / config.accumulate
            for sum_, part in zip(total, torch.autograd.grad(loss, parameters), strict=True):
                sum_ += part / SCALE
        return total

    for step, (batch, rate) in enumerate(zip(batches, rates, strict=True)):
        at_weights = gradients(batch, step)
        norm = math.sqrt(sum(part.double().square().sum().item() for part in at_weights))
        kept = [p.detach().clone() for p in parameters]
        for layer in norms:
            layer.momentum = 0.0
        counted = [layer.num_batches_tracked.clone() for layer in norms]
        for p, part in zip(parameters, at_weights, strict=True):
            p.data += config.sam_rho * part / norm
        uphill = gradients(batch, step)
        for p, old in zip(parameters, kept, strict=True):
            p.data.copy_(old)
        for layer, count in zip(norms, counted, strict=True):
            layer.momentum = 0.1
            layer.num_batches_tracked.copy_(count)
        norm = math.sqrt(sum(part.double().square().sum().item() for part in uphill))
        shrink = min(1.0, config.clip_grad / norm) if config.clip_grad else 1.0
        for p, part in zip(parameters, uphill, strict=True):
            p.grad = part * shrink
        optimizer.param_groups[0]["lr"] = rate
        optimizer.step()


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"optimizer": "adamw", "lr": 0.01},
        {"accumulate": 4, "clip_grad": 0.5},
        {"drop_path": 0.5},
        {"image_size": 32, "batch_size": 16, "amp": "bf16"},
        {"image_size": 32, "batch_size": 16, "amp": "fp16", "clip_grad": 0.5},
    ],
    ids=["sgd", "adamw", "accumulate-clip", "drop-path", "bf16", "fp16-clip"],
)
def test_three_steps_are_those_of_the_algorithm(tiny: RunConfig, options: dict) -> None:
    changes = {"population": 2, "init": "independent", "sam_rho": 0.05, "channels_last": False}
    changes |= {"train_limit": STEPS * options.get("batch_size", 32)} | options
    config = TrainingConfig.model_validate(tiny.training.model_dump() | changes)
    loop = loop_of(config)
    model = copy.deepcopy(loop.population.modules[MEMBER])
    without = loop_of(config.model_copy(update={"sam_rho": 0.0}))
    assert loop.schedule.steps_per_epoch == STEPS
    recipe = loop.recipes[MEMBER]
    batches = list(loop.data.epoch_batches(0, MEMBER, 0, config.batch_size, recipe))
    for each in (loop, without):
        if config.amp == "fp16":
            each.engine.scalers = [torch.amp.GradScaler("cpu", init_scale=SCALE) for _ in range(2)]
        each.epoch(0, lambda pulse: None)
    rates = [loop.schedule.at(step) for step in range(STEPS)]
    sam_in_plain_torch(config, model, batches, rates)
    population = loop.population
    ours = population.named_tensors(population.state(MEMBER))
    close = {"rtol": 1e-3, "atol": 1e-4} if config.amp == "off" else {"rtol": 2e-2, "atol": 2e-2}
    for name, tensor in model.state_dict().items():
        torch.testing.assert_close(ours[name], tensor, **close, msg=lambda m, n=name: f"{n}: {m}")
    plain = without.population.weights[MEMBER]
    apart = (population.weights[MEMBER] - plain).norm() / plain.norm()
    assert apart > 1e-3  # the ascent tells in the weights


def test_the_first_step_leaves_the_statistics_of_plain_training(tiny: RunConfig) -> None:
    found = []
    for rho in (0.0, 0.5):
        changes = {"train_limit": 32, "sam_rho": rho}
        loop = loop_of(tiny.training.model_copy(update=changes))
        losses = loop.epoch(0, lambda pulse: None)
        found.append((losses, loop.population.buffers, loop.population.counters))
    for one, other in zip(*found, strict=True):
        assert torch.equal(one, other)


def test_a_gradient_of_zero_has_no_direction(tiny: RunConfig) -> None:
    """All class scores are equal and stay so: weights of 0 end as weights of 0."""
    changes = {"train_limit": 32, "sam_rho": 0.5, "weight_decay": 0.0, "population": 2}
    loop = loop_of(tiny.training.model_copy(update=changes))
    loop.engine.loss = lambda row, batch: 0.0 * loop.population.modules[row](batch.images).sum()
    before = loop.population.weights.clone()
    loop.epoch(0, lambda pulse: None)
    assert torch.equal(loop.population.weights, before)


def test_the_graph_engine_is_refused(capfd) -> None:
    code, _, shown = command(capfd, "run", "digits", "--sam-rho", "0.05", "--engine", "graph")
    assert code == 2
    assert "--engine graph takes no --sam-rho: leave one of them out" in shown
