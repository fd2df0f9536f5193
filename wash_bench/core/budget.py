"""Keeping a coupling as strong over a short training as it is over the papers' long one.

What keeps a population in one basin is how often a coordinate is exchanged over the whole
training. A method says in ``Method.scaled`` how its options keep that number when the training
gets shorter (or longer); this module holds what the methods share. It imports no torch.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

Rates = Callable[[float], float]
"""The learning rate over its greatest, by the share of the training that is done."""
POINTS = 2000


def constant(share: float) -> float:
    """A learning rate that does not change."""
    return 1.0


@dataclass(frozen=True)
class Budget:
    """The length of a training beside that of the papers' training.

    Attributes:
        steps: optimizer steps of the training, T.
        epochs: its epochs.
        paper_steps: optimizer steps of the papers' training.
        paper_epochs: its epochs.
        rates: learning rates of the training.
        paper_rates: those of the papers'.
    """

    steps: int
    epochs: int
    paper_steps: int
    paper_epochs: int
    rates: Rates = constant
    paper_rates: Rates = constant

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


def scaled_pull(alpha: float, every: int, budget: Budget, *, by_rate: bool) -> Scaled:
    """The contraction of the members' deviations kept, as PAPA pulls: the product of all a_t.

    The period stays and alpha falls as the training shrinks, down to 0. Where the product would
    need more, the period shrinks to the longest one that keeps it, and at a period of 1 alpha
    stays at 0.

    Args:
        alpha: what a member keeps of itself in the papers' training.
        every: the period there, in steps.
        budget: both lengths.
        by_rate: whether 1 - a_t is (1 - alpha) times the learning rate over its greatest.

    Returns:
        ``alpha`` and ``every``.
    """
    rates, papers = map(
        _sampled, (budget.rates, budget.paper_rates) if by_rate else (constant,) * 2
    )
    wanted = _log_kept(alpha, papers) * budget.paper_steps / every  # over the whole training
    strongest = _log_kept(0.0, rates)  # of one pull
    period = every
    if wanted * period / budget.steps < strongest:
        period = max(1, math.floor(strongest * budget.steps / wanted))
    each = wanted * period / budget.steps
    if each < strongest:
        most = strongest * budget.steps
        limited = f"a pull of 1 at every step contracts by exp({most:.4g}), not exp({wanted:.4g})"
        return Scaled({"alpha": 0.0, "every": period}, limited)
    if period == every and math.isclose(each, _log_kept(alpha, rates), rel_tol=1e-9):
        return Scaled({"alpha": alpha, "every": every})
    low, high = 0.0, 1.0
    for _ in range(60):  # bisection to the last bit
        middle = (low + high) / 2
        low, high = (middle, high) if _log_kept(middle, rates) < each else (low, middle)
    return Scaled({"alpha": (low + high) / 2, "every": period})


def _sampled(rates: Rates) -> list[float]:
    """The rates at the middles of ``POINTS`` equal parts of the training."""
    return [rates((point + 0.5) / POINTS) for point in range(POINTS)]


def _log_kept(alpha: float, rates: Sequence[float]) -> float:
    """Mean of log a_t over a training."""
    return sum(math.log(max(1e-12, 1 - rate * (1 - alpha))) for rate in rates) / len(rates)
