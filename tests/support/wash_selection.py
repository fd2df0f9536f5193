"""WASH with few options, and the coordinates that it selects."""

from __future__ import annotations

import numpy as np

from wash_bench.core.exchange import LocalExchange
from wash_bench.core.population import Population
from wash_bench.core.sampling import draw_coordinates
from wash_bench.methods.wash import Wash, WashOptions


def wash(kind: type[Wash] = Wash, **options) -> Wash:
    return kind(WashOptions(**options))


def selected(method: Wash, population: Population, seed: int, step: int) -> np.ndarray:
    """The coordinates that ``method`` draws at a step."""
    pieces, _ = method.pieces(population.layout, population.n)
    return draw_coordinates(LocalExchange(population.n, seed).stream("shuffle", step), pieces)
