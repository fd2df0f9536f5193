"""Trainings with random displacements, for the tests of the rules."""

from __future__ import annotations

import numpy as np
import torch

from wash_bench.core.population import Population
from wash_bench.core.step_info import StepInfo
from wash_bench.methods.local_sgd import LocalSgd, LocalSgdOptions
from wash_bench.methods.papa_all import PapaAll, PapaAllOptions
from wash_bench.methods.post_local_sgd import PostLocalSgd, PostLocalSgdOptions


def move(population: Population, clock: StepInfo) -> None:
    """What stands for an optimizer step: every member moves in a direction of its own."""
    for row, member in enumerate(population.members):
        generator = torch.Generator().manual_seed(1000 * clock.step + member)
        for rows in (population.weights, population.buffers):
            rows[row] += 0.1 * torch.randn(rows.shape[1], generator=generator)


def close(rows: torch.Tensor, expected) -> None:
    np.testing.assert_allclose(rows.numpy(), np.asarray(expected), rtol=1e-4, atol=1e-5)


def local_steps(steps: int, every: int) -> list[int]:
    since, events = 0, []
    for step in range(steps - 1):
        since += 1
        if since == every:
            events.append(step)
            since = 0
    return events


def post_local_steps(steps: int, every: int, synchronous: int) -> list[int]:
    late = [synchronous + step for step in local_steps(steps - synchronous, every)]
    return [step for step in range(synchronous) if step != steps - 1] + late


MEANS = [
    (LocalSgd(LocalSgdOptions(every=7)), local_steps(40, 7)),
    (LocalSgd(LocalSgdOptions(every=40)), []),
    (LocalSgd(LocalSgdOptions(every=1)), list(range(39))),
    (PostLocalSgd(PostLocalSgdOptions(every=6, switch=0.28)), post_local_steps(40, 6, 11)),
    (PostLocalSgd(PostLocalSgdOptions(every=3, switch=0)), local_steps(40, 3)),
    (PostLocalSgd(PostLocalSgdOptions(switch=1.0)), list(range(39))),
    (PapaAll(PapaAllOptions(every=1)), [9, 19, 29]),
    (PapaAll(PapaAllOptions(every=2)), [9, 29]),
    (PapaAll(), [9]),
]
