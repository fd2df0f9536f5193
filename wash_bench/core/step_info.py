"""Where a training stands: the loop hands a ``StepInfo`` to the method after every step."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from wash_bench.config.schedules import SCHEDULES

if TYPE_CHECKING:
    from wash_bench.config import TrainingConfig


@dataclass(frozen=True, slots=True)
class StepInfo:
    """The moment just after optimizer step ``step``.

    Attributes:
        step: index of the step just taken, from 0.
        steps: steps of the whole training.
        steps_per_epoch: optimizer steps an epoch.
        lr: learning rate that the step used.
        next_lr: learning rate of the step to come (what a scheduler reads after its own step).
        base_lr: lr_0, the learning rate with which the schedule starts after any warm-up: its peak.
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
        """Epochs of the whole training."""
        return math.ceil(self.steps / self.steps_per_epoch)

    @property
    def step_in_epoch(self) -> int:
        """Index of the step within its epoch, from 0."""
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
    """The learning rate by step: a warm-up, then one of ``SCHEDULES`` over the steps left.

    Step t of the W steps of the warm-up, from 0, uses lr (t + 1) / (W + 1); step W uses lr, with
    which the schedule starts.

    Attributes:
        kind: the schedule's name.
        lr: its first and greatest rate.
        lr_min: its last rate, where it is ``cosine``.
        steps: steps of the whole training.
        steps_per_epoch: optimizer steps an epoch.
        milestones: shares of its steps in (0, 1), where it is ``multistep``.
        warmup: steps of the warm-up, fewer than ``steps``.
    """

    kind: str
    lr: float
    lr_min: float
    steps: int
    steps_per_epoch: int
    milestones: tuple[float, ...] = (0.5, 0.75)
    warmup: int = 0

    @classmethod
    def of(cls, config: TrainingConfig, steps_per_epoch: int) -> Schedule:
        """The schedule of a training; a warm-up of parts of epochs in whole steps."""
        steps = config.epochs * steps_per_epoch
        warmup = min(round(config.warmup * steps_per_epoch), steps - 1)
        rates = (config.lr, config.lr_min)
        return cls(config.schedule, *rates, steps, steps_per_epoch, config.milestones, warmup)

    def at(self, step: int) -> float:
        """The learning rate that optimizer step ``step`` (from 0) uses."""
        if step < self.warmup:
            return self.lr * (step + 1) / (self.warmup + 1)
        return SCHEDULES[self.kind](self, step - self.warmup, self.steps - self.warmup)

    def clock(self, step: int) -> StepInfo:
        """The moment just after a step."""
        return StepInfo(
            step, self.steps, self.steps_per_epoch, self.at(step), self.at(step + 1), self.lr
        )

    def clocks(self) -> Iterator[StepInfo]:
        """The clock of every step of the training."""
        return (self.clock(step) for step in range(self.steps))
