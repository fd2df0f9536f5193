"""Exchanges that run while the next step computes: any method, its effect one step late.

After step t the method works on a copy of the population in a thread of its own, while the
members take step t + 1. Then what the method changed in the copy is added to the members:

    theta_{t+1} <- theta_{t+1} + (method(theta_t) - theta_t)

At the end of an epoch the loop waits, so that checkpoints hold no exchange that is under way.
The bytes are the method's own; the price is a second copy of weights and optimizer state, and an
update that is one step old.
"""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from wash_bench.core.clock import Clock
from wash_bench.core.ledger import Charge
from wash_bench.core.method import Method, MethodOptions, Site
from wash_bench.core.names import OVERLAP

if TYPE_CHECKING:
    from torch import Tensor

    from wash_bench.core.exchange import Exchange
    from wash_bench.core.population import Population
    from wash_bench.data.recipe import Recipe
    from wash_bench.evaluate.judge import Judge, Predictor


class Overlapped(Method):
    """A method whose exchanges are delayed by one step; it is called NAME+overlap.

    Args:
        inner: the method.
    """

    def __init__(self, inner: Method) -> None:
        self.inner = inner
        self.Options = type(inner.options)  # type: ignore[misc]
        self.name = inner.name + OVERLAP  # type: ignore[misc]
        self.rule = f"{inner.rule}; one step late"  # type: ignore[misc]
        self.paper = inner.paper  # type: ignore[misc]
        self.sends = inner.sends  # type: ignore[misc]
        self._pending: _Pending | None = None
        super().__init__(inner.options)

    @property
    def options(self) -> MethodOptions:
        return self.inner.options

    @options.setter
    def options(self, options: MethodOptions) -> None:
        self.inner.options = options

    def training_key(self) -> dict[str, Any]:
        return self.inner.training_key() | {"overlap": True}

    def recipe(self, member: int, base: Recipe, clock: Clock) -> Recipe:
        return self.inner.recipe(member, base, clock)

    def active(self, n: int, clock: Clock) -> int:
        return self.inner.active(n, clock)

    def start(self, population: Population, exchange: Exchange) -> None:
        self.inner.start(population, exchange)

    def after_step(self, population: Population, exchange: Exchange, clock: Clock) -> None:
        self._land(population)
        slots = len(population.optimizer_state)
        if not self.inner.charges(Site(population.layout, exchange.n, slots), clock):
            self.inner.after_step(population, exchange, clock)  # nothing travels: nothing to hide
            return
        self._pending = _Pending(
            population, lambda copied: self.inner.after_step(copied, exchange, clock)
        )
        if clock.epoch_end:
            self._land(population)

    def _land(self, population: Population) -> None:
        pending, self._pending = self._pending, None
        if pending is not None:
            pending.land(population)

    def charges(self, site: Site, clock: Clock) -> Sequence[Charge]:
        return self.inner.charges(site, clock)

    def facts(self, site: Site) -> dict[str, Any]:
        return self.inner.facts(site)

    def state_dict(self) -> dict[str, Tensor]:
        return self.inner.state_dict()

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        self.inner.load_state_dict(state)

    def predictors(self, population: Population, judge: Judge) -> dict[str, Predictor]:
        return self.inner.predictors(population, judge)


class _Pending:
    """An exchange under way on a copy of the population."""

    def __init__(self, population: Population, exchange: Callable[[Population], None]) -> None:
        copied = copy.copy(population)
        copied.weights = population.weights.clone()
        copied.buffers = population.buffers.clone()
        copied.counters = population.counters.clone()
        copied.optimizer_steps = population.optimizer_steps.clone()
        copied.optimizer_state = {k: rows.clone() for k, rows in population.optimizer_state.items()}
        self.before = [rows.clone() for rows in _rows(population)]
        self.after = _rows(copied)
        self.error: BaseException | None = None
        self.thread = threading.Thread(target=self._run, args=(exchange, copied))
        self.thread.start()

    def _run(self, exchange: Callable[[Population], None], copied: Population) -> None:
        try:
            exchange(copied)
        except BaseException as error:  # raised again where the loop waits
            self.error = error

    def land(self, population: Population) -> None:
        """Wait, and add what changed to the members."""
        self.thread.join()
        if self.error is not None:
            raise self.error
        for rows, before, after in zip(_rows(population), self.before, self.after, strict=True):
            rows.add_(after.sub_(before))


def _rows(population: Population) -> list[Tensor]:
    return [
        population.weights,
        population.buffers,
        population.counters,
        population.optimizer_steps,
        *population.optimizer_state.values(),
    ]
