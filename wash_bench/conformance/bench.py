"""A small population, and a training in which displacements stand for the optimizer's steps.

A displacement depends on the member and the step alone, not on the method or the process that
holds the member. BatchNorm statistics, momentum and counters move too. ``ReferenceRule`` is what
wrappers are checked around.
"""

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from wash_bench.core.exchange import Exchange, LocalExchange
from wash_bench.core.ledger import CommEvent, charge_mean
from wash_bench.core.method import CommShape, Method, MethodOptions, Rows
from wash_bench.core.population import Population
from wash_bench.core.sampling import average_at_
from wash_bench.core.step_info import Schedule, StepInfo
from wash_bench.core.topology import start_charges, start_equal
from wash_bench.seeds import torch_stream

PLAN = Schedule("cosine", 0.1, 1e-4, steps=40, steps_per_epoch=10)
SGD, ADAM = ("momentum_buffer",), ("exp_avg", "exp_avg_sq")
EPOCHS = PLAN.clock(0).epochs
CLASSES, CHANNELS = 3, 3
EVERY, CHOSEN = 3, 50  # of the reference rule: period in steps, coordinates
LENGTH = f"{PLAN.steps} steps of {PLAN.steps_per_epoch} an epoch"


def network() -> nn.Module:
    """Two convolutions with BatchNorm and a classifier: 371 parameters, 20 running statistics."""
    return nn.Sequential(
        nn.Conv2d(CHANNELS, 4, 3, bias=False),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Conv2d(4, 6, 3),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(6, CLASSES),
    )


def population_of(
    members: int | Sequence[int], slots: Sequence[str] = SGD, alike: bool = False
) -> Population:
    """Members whose every weight differs, or who are all as member 0."""
    population = Population(lambda _: network(), members, optimizer_slots=slots)
    for row, member in enumerate(population.members):
        generator = torch_stream(0, "conformance start", 0 if alike else member)
        weights, buffers = population.weights[row], population.buffers[row]
        weights.copy_(0.3 * torch.randn(weights.shape, generator=generator))
        buffers.copy_(torch.rand(buffers.shape, generator=generator) + 0.5)
    for piece in population.layout.slices:
        if piece.kind == "norm" and piece.name.endswith("weight"):
            population.weights[:, piece.offset : piece.stop] += 1.0
    return population


@cache
def _noise(member: int, step: int, size: int) -> Tensor:
    return torch.randn(size, generator=torch_stream(0, "conformance step", member, step))


def take_step(population: Population, row: int, member: int, step: int) -> None:
    """What stands for an optimizer step of the member in ``row``, in the steps of ``member``."""
    weights, buffers = population.weights[row], population.buffers[row]
    noise = _noise(member, step, weights.numel() + buffers.numel())
    for rows in population.optimizer_state.values():
        rows[row].mul_(0.9).add_(noise[: weights.numel()].abs(), alpha=0.1)
    weights.mul_(0.99).add_(noise[: weights.numel()], alpha=0.05)
    buffers.mul_(0.9).add_(noise[weights.numel() :].abs(), alpha=0.1)  # variances stay positive
    population.counters[row] += 1
    population.optimizer_steps[row] += 1


@dataclass
class Trained:
    """A training that has ended (or has been stopped), and all that it left."""

    method: Method
    population: Population
    exchange: Exchange

    def tensors(self) -> dict[str, Tensor]:
        """Everything that the training is made of, by name; rows first, then shared memory."""
        here = self.population
        return {
            "weights": here.weights,
            "buffers": here.buffers,
            "counters": here.counters,
            "optimizer steps": here.optimizer_steps,
            **{f"optimizer state {name}": rows for name, rows in here.optimizer_state.items()},
            **{f"member_state {name}": rows for name, rows in here.member_state.items()},
            **{f"state_dict {name}": tensor for name, tensor in self.method.state_dict().items()},
        }


def train(
    method: Method,
    members: int | Population,
    *,
    exchange: Exchange | None = None,
    seed: int = 0,
    first: int = 0,
    alike: bool = False,
    noise: int = 0,
    after: Callable[[Trained, StepInfo], None] | None = None,
) -> Trained:
    """Train a small population.

    Args:
        method: a fresh method; one with its memory if ``first`` is not 0.
        members: how many, or the population itself.
        exchange: in one process by default.
        seed: the run's seed.
        first: the step to go on with.
        alike: whether all members take the same steps.
        noise: the state that the global random generators are in before each call of the method.
        after: called after every step.

    Returns:
        What the training leaves.
    """
    population = members if isinstance(members, Population) else population_of(members)
    exchange = exchange or LocalExchange(population.n, seed)
    run = Trained(method, population, exchange)
    active = 0
    with global_generators():
        if first == 0:
            population.remember(method.member_slots())
            disturb(noise)
            method.start(population, exchange)
        for step in range(first, PLAN.steps):
            clock = PLAN.clock(step)
            if step == first or clock.step_in_epoch == 0:
                active = method.active(exchange.n, clock)
            for row, member in enumerate(population.members):
                if member < active:
                    take_step(population, row, 0 if alike else member, step)
            disturb(noise + step)
            method.after_step(population, exchange, clock)
            if after is not None:
                after(run, clock)
    return run


def disturb(state: int) -> None:
    """Put the global random generators of torch, numpy and Python into some state."""
    torch.default_generator.manual_seed(state)
    np.random.seed(state)
    random.seed(state)


@contextmanager
def global_generators() -> Iterator[None]:
    """Leave the global random generators as they were."""
    states = torch.get_rng_state(), np.random.get_state(), random.getstate()
    try:
        yield
    finally:
        torch.set_rng_state(states[0])
        np.random.set_state(states[1])
        random.setstate(states[2])


def clones(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Copies, which a training that goes on does not change."""
    return {name: tensor.clone() for name, tensor in tensors.items()}


def first_difference(one: dict[str, Tensor], two: dict[str, Tensor]) -> str:
    """The name of the first tensor that is not the same to the bit; empty if there is none."""
    for name in {**one, **two}:
        if name not in one or name not in two or not torch.equal(one[name], two[name]):
            return name
    return ""


class ReferenceRule(Method):
    """Members tied to a moving centre, and averaged at some random coordinates.

    Attributes:
        starts: how often ``start`` was called.
        steps: the steps after which ``after_step`` was called.
    """

    name = "witness"
    rule = "every third step: average 50 coordinates, move the centre, pull towards it"
    paper = "none: for checks"
    sends = "all weights and 50 of them again, every third step"
    member_state: ClassVar[Mapping[str, Rows]] = {"trail": "weights"}

    def __init__(self, options: MethodOptions | None = None) -> None:
        super().__init__(options)
        self.starts = 0
        self.steps: list[int] = []
        self._centre: Tensor | None = None

    def start(self, population: Population, exchange: Exchange) -> None:
        self.starts += 1
        start_equal(population, exchange)
        self._centre = population.weights[0].clone()

    def after_step(self, population: Population, exchange: Exchange, clock: StepInfo) -> None:
        self.steps.append(clock.step)
        if (clock.step + 1) % EVERY:
            return
        weights, rng = population.weights, exchange.stream("witness", clock.step)
        chosen = rng.choice(weights.shape[1], CHOSEN, replace=False)
        average_at_(exchange, [(weights, "weights")], torch.from_numpy(chosen))
        mean = exchange.mean(weights)
        self._centre = mean if self._centre is None else self._centre.lerp(mean, 0.5)
        weights.lerp_(self._centre, 0.1)
        population.member_state["trail"] += weights

    def charges(self, site: CommShape, clock: StepInfo) -> Sequence[CommEvent]:
        charges = start_charges(site, clock)
        if (clock.step + 1) % EVERY == 0:
            charges += [charge_mean(site.n, CHOSEN), charge_mean(site.n, site.layout.size)]
        return charges

    def state_dict(self) -> dict[str, Tensor]:
        return {} if self._centre is None else {"centre": self._centre}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        self._centre = state["centre"]
