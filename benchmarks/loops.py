"""The shared loop over a small population on a CPU, as several benchmarks time it; no command."""

from __future__ import annotations

from typing import Any

from wash_bench.config import TrainingConfig
from wash_bench.core.exchange import LocalExchange
from wash_bench.core.method import Method
from wash_bench.runner.training_setup import TrainingSetup
from wash_bench.train.loop import Loop


def setting_of(model: str, n: int, **more: Any) -> TrainingSetup:
    """N networks of one start on Fashion-MNIST's part in the package."""
    config = TrainingConfig(
        dataset="fashion-mini", model=model, population=n, init="shared", device="cpu", **more
    )
    return TrainingSetup.of(config)


def loop_of(setting: TrainingSetup, method: Method, n: int) -> Loop:
    """The loop of the first n members."""
    population = setting.population(0, list(range(n)))
    return Loop(
        setting.config, method, population, LocalExchange(n, 0), setting.data,
        setting.recipes(0)[:n], 0, setting.schedule,
    )  # fmt: skip
