"""How the learning rate falls over the steps, by name: torch's schedulers in closed form.

Another schedule is another function and its row. Nothing of torch is imported: what a training
costs is told from its clocks alone.
"""

import math
from collections.abc import Callable, Mapping
from typing import Protocol


class Rates(Protocol):
    """What a schedule is made of: first and last rate, and shares of the steps, ascending."""

    @property
    def lr(self) -> float: ...
    @property
    def lr_min(self) -> float: ...
    @property
    def milestones(self) -> tuple[float, ...]: ...


def cosine(rates: Rates, step: int, steps: int) -> float:
    """``CosineAnnealingLR``, from lr to lr_min: stepped every iteration, as in PAPA's code."""
    return rates.lr_min + (rates.lr - rates.lr_min) * (1 + math.cos(math.pi * step / steps)) / 2


def constant(rates: Rates, step: int, steps: int) -> float:
    """``ConstantLR`` with factor 1."""
    return rates.lr


def multistep(rates: Rates, step: int, steps: int) -> float:
    """``MultiStepLR``: a tenth at each milestone."""
    return rates.lr * 0.1 ** sum(step >= round(share * steps) for share in rates.milestones)


ScheduleFn = Callable[[Rates, int, int], float]
"""The learning rate of a step, from 0, of so many; that of step 0 is ``lr``, the greatest."""

SCHEDULES: Mapping[str, ScheduleFn] = {
    "cosine": cosine,
    "constant": constant,
    "multistep": multistep,
}
