"""Exchanges that run while the next step computes: any method, its effect one step late.

After step t the method works on a copy of the population in a thread of its own, while the
members take step t + 1. Then what the method changed in the copy is added to the members:

    theta_{t+1} <- theta_{t+1} + (method(theta_t) - theta_t)

What must stay positive takes the late value itself instead, where the method changed it: Adam's
second moment and the BatchNorm running statistics. Step t + 1's change of it is lost there; a
difference added to it could take it below zero.

At the end of an epoch the loop waits, so that checkpoints hold no exchange that is under way;
within an epoch they wait for a step after which there is none.
The bytes are the method's own; the price is a second copy of weights and optimizer state, and an
update that is one step old.
"""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from wash_bench.core.method import CommShape, Method, MethodOptions, NotPredicted
from wash_bench.core.step_info import StepInfo
from wash_bench.core.wrapper import Wrapper

if TYPE_CHECKING:
    from torch import Tensor

    from wash_bench.core.exchange import Exchange
    from wash_bench.core.population import Population


POSITIVE = ("exp_avg_sq",)
"""State of optimizers that is a mean of squares."""


class Overlapped(Wrapper):
    """A method whose exchanges are delayed by one step; it is called NAME+overlap."""

    kind = "exchange"
    name = "overlap"
    rule = "one step late, while the next step computes"
    paper = "none: an option of this suite"
    sends = "what the method inside sends"
    when = "exchanges that take as long as a step: they run beside the next one"
    needs = "a second copy of weights and optimizer state"

    def __init__(self, options: MethodOptions | None = None, inner: Method | None = None) -> None:
        super().__init__(options, inner)
        self._pending: _Pending | None = None

    def after_step(self, population: Population, exchange: Exchange, clock: StepInfo) -> None:
        self._land(population)
        if not self._travels(population, exchange.n, clock):
            self.inner.after_step(population, exchange, clock)  # nothing travels: nothing to hide
            return
        self._pending = _Pending(
            population, lambda copied: self.inner.after_step(copied, exchange, clock)
        )
        if clock.epoch_end:
            self._land(population)

    def at_rest(self) -> bool:
        return self._pending is None

    def _travels(self, population: Population, n: int, clock: StepInfo) -> bool:
        """Whether the method inside sends something now; without charges it may."""
        try:
            site = CommShape(population.layout, n, len(population.optimizer_state))
            return bool(self.inner.charges(site, clock))
        except NotPredicted:
            return True

    def _land(self, population: Population) -> None:
        pending, self._pending = self._pending, None
        if pending is not None:
            pending.land(population)


class _Pending:
    """An exchange under way on a copy of the population."""

    def __init__(self, population: Population, exchange: Callable[[Population], None]) -> None:
        copied = copy.copy(population)
        copied.weights = population.weights.clone()
        copied.buffers = population.buffers.clone()
        copied.counters = population.counters.clone()
        copied.optimizer_steps = population.optimizer_steps.clone()
        copied.optimizer_state = _clones(population.optimizer_state)
        copied.member_state = _clones(population.member_state)
        self.before = [rows.clone() for _, rows in _rows(population)]
        self.after = [rows for _, rows in _rows(copied)]
        self.error: BaseException | None = None
        self.thread = threading.Thread(target=self._run, args=(exchange, copied))
        self.thread.start()

    def _run(self, exchange: Callable[[Population], None], copied: Population) -> None:
        try:
            exchange(copied)
        except BaseException as error:  # raised again where the loop waits
            self.error = error

    def land(self, population: Population) -> None:
        """Wait, and bring what changed to the members."""
        self.thread.join()
        if self.error is not None:
            raise self.error
        both = zip(_rows(population), self.before, self.after, strict=True)
        for (positive, rows), before, after in both:
            if positive:
                rows.copy_(after.where(after != before, rows))
            else:
                rows.add_(after.sub_(before))


def _rows(population: Population) -> list[tuple[bool, Tensor]]:
    """All that a method may change, and whether it must stay positive."""
    return [
        (False, population.weights),
        (True, population.buffers),
        (False, population.counters),
        (False, population.optimizer_steps),
        *((name in POSITIVE, rows) for name, rows in population.optimizer_state.items()),
        *((False, rows) for rows in population.member_state.values()),
    ]


def _clones(named: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: rows.clone() for name, rows in named.items()}
