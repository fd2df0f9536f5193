"""Which engine takes the steps of a training."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from wash_bench.errors import UsageError
from wash_bench.train.engine import Engine

if TYPE_CHECKING:
    from wash_bench.config import TrainingConfig
    from wash_bench.core.population import Population


EAGER_STEPS = {"eager": 1, "graph": 4}
"""Steps of an engine before it has come to its speed."""


def engine_name(config: TrainingConfig, device: torch.device) -> str:
    """The name of the configuration's engine, ``auto`` being ``eager``.

    Returns:
        ``eager`` or ``graph``.

    Raises:
        UsageError: the engine does not run on the device.
    """
    if config.engine == "graph" and device.type != "cuda":
        raise UsageError(
            f"--engine graph needs a CUDA device, not {device.type}: leave --engine out"
        )
    return "eager" if config.engine == "auto" else config.engine


def make_engine(population: Population, config: TrainingConfig, seed: int) -> Engine:
    """The engine of a training."""
    loss = None
    if config.compile:
        from wash_bench.train.loss import CompiledLoss

        part = config.batch_size // config.accumulate
        loss = CompiledLoss(population, config.amp, part, frozen=config.freeze_bn)
    if engine_name(config, population.device) == "graph":
        from wash_bench.train.graph import GraphEngine

        return GraphEngine(population, config, seed, loss)
    return Engine(population, config, seed, loss)
