"""A training rule for wrappers to go around: it sends, draws and remembers, and counts calls."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar

from wash_bench.core.clock import Clock
from wash_bench.core.ledger import Charge, charge_mean
from wash_bench.core.method import Method, MethodOptions, Rows, Site
from wash_bench.core.sparse import average_at_
from wash_bench.core.together import start_charges, start_equal

if TYPE_CHECKING:
    from torch import Tensor

    from wash_bench.core.exchange import Exchange
    from wash_bench.core.population import Population

EVERY, CHOSEN = 3, 50


class Witness(Method):
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

    def after_step(self, population: Population, exchange: Exchange, clock: Clock) -> None:
        import torch

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

    def charges(self, site: Site, clock: Clock) -> Sequence[Charge]:
        charges = start_charges(site, clock)
        if (clock.step + 1) % EVERY == 0:
            charges += [charge_mean(site.n, CHOSEN), charge_mean(site.n, site.layout.size)]
        return charges

    def state_dict(self) -> dict[str, Tensor]:
        return {} if self._centre is None else {"centre": self._centre}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        self._centre = state["centre"]
