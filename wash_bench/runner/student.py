"""One further network, trained after a population under the run's settings, for a merge rule."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from wash_bench.core.exchange import LocalExchange
from wash_bench.core.merge_context import StudentLoss, StudentStart
from wash_bench.core.population import Population
from wash_bench.core.precision import autocast
from wash_bench.core.wrapper import Independent
from wash_bench.data.source import Batch
from wash_bench.errors import CellFailure
from wash_bench.evaluate.population_context import Student
from wash_bench.seeds import derive
from wash_bench.train.loop import Loop
from wash_bench.train.optim import optimizer_slots

if TYPE_CHECKING:
    from wash_bench.runner.training_setup import TrainingSetup


def train_student(
    setting: TrainingSetup,
    seed: int,
    pulse: Callable[[int, int], None],
    loss: StudentLoss,
    start: StudentStart,
    share: float,
) -> Student:
    """Train one network with the run's optimizer, schedule and first recipe.

    Args:
        setting: the run's; hyperparameters that vary between its members have the run's values.
        seed: the run's.
        pulse: is told the steps done, and all, after each epoch.
        loss: of the network on a batch of images.
        start: whose initial weights it has.
        share: its epochs over the run's.

    Returns:
        The network, and what it cost.

    Raises:
        CellFailure: the members were trained elsewhere; a loss is not finite.
    """
    if setting.config.members:
        raise CellFailure(
            "it trains a network under the run's settings, and these networks were trained "
            "elsewhere: leave it out"
        )
    began = time.monotonic()
    epochs = max(1, round(share * setting.config.epochs))
    fixed = {"population": 1, "vary": {}, "linear_probe": 0, "engine": "auto", "compile": False}
    if start == "fresh":
        fixed["freeze_bn"] = False
    own = setting.but(setting.config.but(epochs=epochs, **fixed))
    network = own.network(seed, 0) if start == "first" else own.fresh(derive(seed, "student"))
    population = Population(
        lambda _: network,
        1,
        device=own.device,
        channels_last=own.config.channels_last,
        optimizer_slots=optimizer_slots(own.config),
    )
    stream = derive(seed, "student")  # no member's order, augmentation and dropout
    exchange, schedule = LocalExchange(1, stream), own.schedule
    rule, recipes = Independent(), own.recipes(seed)
    loop = Loop(own.config, rule, population, exchange, own.data, recipes, stream, schedule)

    def of_batch(row: int, batch: Batch) -> Tensor:
        with autocast(own.device, own.config.amp), torch.enable_grad():
            return loss(population.modules[row], batch.images)

    loop.engine.loss = of_batch
    for epoch in range(epochs):
        loop.epoch(epoch, lambda _: None)
        pulse((epoch + 1) * schedule.steps_per_epoch, schedule.steps)
    return Student(population.state(0), schedule.steps, time.monotonic() - began)
