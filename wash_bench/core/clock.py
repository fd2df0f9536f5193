"""Where a training stands: the loop hands a Clock to the method after every step."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Clock:
    """The moment just after optimizer step ``step``.

    Attributes:
        step: index of the step just taken, from 0.
        steps: steps of the whole training.
        steps_per_epoch: optimizer steps an epoch.
        lr: learning rate that the step used.
        next_lr: learning rate of the step to come (what a scheduler reads after its own step).
        base_lr: learning rate at the start of the schedule.
    """

    step: int
    steps: int
    steps_per_epoch: int
    lr: float
    next_lr: float
    base_lr: float

    @property
    def epoch(self) -> int:
        """Index of the current epoch, from 0."""
        return self.step // self.steps_per_epoch

    @property
    def epochs(self) -> int:
        return math.ceil(self.steps / self.steps_per_epoch)

    @property
    def step_in_epoch(self) -> int:
        return self.step % self.steps_per_epoch

    @property
    def epoch_end(self) -> bool:
        """Whether the step just taken was the last of its epoch."""
        return self.step_in_epoch == self.steps_per_epoch - 1 or self.last

    @property
    def last(self) -> bool:
        """Whether the step just taken was the last of the training."""
        return self.step == self.steps - 1

    @property
    def progress(self) -> float:
        """Share of the training that is done, in (0, 1]."""
        return (self.step + 1) / self.steps


@dataclass(frozen=True, slots=True)
class Schedule:
    """Learning rate by step: ``cosine`` to ``lr_min``, ``constant``, or ``multistep``.

    ``multistep`` multiplies the rate by ``gamma`` at each of ``milestones`` (shares of the
    training in (0, 1)). Cosine follows PAPA's code: stepped every iteration, no warm-up,
    period = the whole training.
    """

    kind: str
    lr: float
    lr_min: float
    steps: int
    steps_per_epoch: int
    milestones: tuple[float, ...] = (0.5, 0.75)
    gamma: float = 0.1

    def at(self, step: int) -> float:
        """The learning rate that optimizer step ``step`` (from 0) uses."""
        if self.kind == "constant":
            return self.lr
        if self.kind == "multistep":
            passed = sum(step >= round(share * self.steps) for share in self.milestones)
            return self.lr * self.gamma**passed
        return (
            self.lr_min + (self.lr - self.lr_min) * (1 + math.cos(math.pi * step / self.steps)) / 2
        )

    def clock(self, step: int) -> Clock:
        return Clock(
            step, self.steps, self.steps_per_epoch, self.at(step), self.at(step + 1), self.lr
        )

    def clocks(self) -> Iterator[Clock]:
        """The clock of every step of the training."""
        return (self.clock(step) for step in range(self.steps))
