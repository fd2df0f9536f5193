"""Keeping a coupling as strong over a short training as it is over the papers' long one.

What keeps a population in one basin is how often a coordinate is exchanged over the whole
training. A method says in ``Method.scaled`` how its options keep that number when the training
gets shorter (or longer); this module holds what the methods share. It imports no torch.
"""

import math
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Budget:
    """The length of a training beside that of the papers' training.

    Attributes:
        steps: optimizer steps of the training, T.
        epochs: its epochs.
        paper_steps: optimizer steps of the papers' training.
        paper_epochs: its epochs.
    """

    steps: int
    epochs: int
    paper_steps: int
    paper_epochs: int

    @property
    def factor(self) -> float:
        """How many times the papers' training is longer, in steps."""
        return self.paper_steps / self.steps


@dataclass(frozen=True)
class Scaled:
    """Options that change in the shorter training, and why the exchanges were not kept, if so."""

    options: dict[str, Any] = field(default_factory=dict)
    limited: str = ""


def scaled_probability(name: str, p: float, budget: Budget) -> Scaled:
    """The product p T kept: the probability grows as the training shrinks, up to 1."""
    wanted = p * budget.factor
    if wanted > 1:
        return Scaled({name: 1.0}, f"{name} would have to be {wanted:.3g} and stays at 1")
    return Scaled({name: wanted})


def scaled_period(name: str, period: int, length: int, paper_length: int, unit: str) -> Scaled:
    """The period as a share of the training kept, rounded, at least 1.

    Args:
        name: the option that holds the period.
        period: its value in the papers' training.
        length: length of the training, in the period's unit.
        paper_length: length of the papers' training, in the same unit.
        unit: the unit, as ``epochs``.

    Returns:
        The period, and why it could not be kept where it would be below 1.
    """
    wanted = period * length / paper_length
    if wanted < 1:
        return Scaled({name: 1}, f"{name} would have to be {wanted:.2g} {unit} and stays at 1")
    return Scaled({name: round(wanted)})


def scaled_pull(alpha: float, every: int, budget: Budget) -> Scaled:
    """(1 - alpha) x events kept, as PAPA pulls.

    The period stays and the pull 1 - alpha grows with T_paper / T, as long as it is at most 1
    (a pull of 1 replaces the members by their mean). Where it would be more, the period shrinks to
    the longest one that keeps the sum, and at a period of 1 the pull stays at 1.

    Args:
        alpha: what a member keeps of itself in the papers' training.
        every: the period there, in steps.
        budget: both lengths.

    Returns:
        ``alpha`` and ``every``.
    """
    wanted = (1 - alpha) * budget.factor  # a pull at the period ``every``
    period = every
    if wanted > 1:
        period = max(1, math.floor(every / wanted))
        wanted *= period / every
    if wanted > 1:
        limited = f"1 - alpha would have to be {wanted:.3g} at every step and stays at 1"
        return Scaled({"alpha": 0.0, "every": period}, limited)
    options: dict[str, Any] = {"alpha": 1 - wanted if wanted != 1 - alpha else alpha}
    return Scaled(options | {"every": period})
