"""A training step and a method's exchange, timed over ranks that have a network between them."""

from __future__ import annotations

import statistics
from collections.abc import Callable

import torch
import torch.distributed as dist

from tests.support.wire_exchanges import together
from wash_bench.config import TrainingConfig
from wash_bench.core.population import Population
from wash_bench.core.step_info import Schedule
from wash_bench.distributed.ranks import DistributedExchange
from wash_bench.models.build import build_model
from wash_bench.plugins.registry import find_method, make_method
from wash_bench.train.optim import RowOptimizer


def training(settings: list[tuple[str, dict]], steps: int) -> list[tuple[float, float]]:
    """ResNet-18 (CIFAR stem, batch 64), one member a rank: a step of it, and a method's exchange.

    Args:
        settings: name and options of each method; it must exchange after the very first step.
        steps: how many steps and exchanges to time, after one to warm up.

    Returns:
        For each method the median seconds of a training step and of its exchange; of every step
        and exchange, the slowest rank's.
    """
    n, rank = dist.get_world_size(), dist.get_rank()
    population = Population(resnet18, [rank], optimizer_slots=("momentum_buffer",))
    optimizer = RowOptimizer(population, TrainingConfig())
    images = torch.randn(64, 3, 32, 32).to(memory_format=torch.channels_last)
    labels = torch.randint(10, (64,))

    def step() -> None:
        population.gradient_row(0).zero_()
        logits = population.modules[0](images)
        torch.nn.functional.cross_entropy(logits, labels).backward()
        optimizer.step(0, 0.0)

    def median(work: Callable[[], object]) -> float:
        return statistics.median([together(work) for _ in range(steps + 1)][1:])

    clock = next(iter(Schedule("constant", 0.1, 0.0, steps=1000, steps_per_epoch=100).clocks()))
    results = []
    for name, options in settings:
        method = make_method(find_method(name), options)
        exchange = DistributedExchange(n, seed=0)
        exchanged = median(lambda m=method, e=exchange: m.after_step(population, e, clock))
        if not exchange.link_bytes:
            raise ValueError(f"{name} exchanges nothing after the first step")
        results.append((median(step), exchanged))
    return results


def resnet18(member: int) -> torch.nn.Module:
    """The network of one member."""
    return build_model("resnet18", classes=10, channels=3, size=32, stem="cifar", seed_value=member)
