"""What several rules share: members in pairs, that start as one, that restart from their mean.

Each exchange stands beside the function that charges it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from wash_bench.core.ledger import CommEvent, charge_broadcast, charge_mean
from wash_bench.core.method import CommShape
from wash_bench.core.step_info import StepInfo

if TYPE_CHECKING:
    from torch import Tensor

    from wash_bench.core.exchange import Exchange
    from wash_bench.core.population import Population


def partners(order: Sequence[int]) -> list[int]:
    """Each member's partner, neighbours in ``order`` being partners; the odd one out is its own."""
    partner = list(range(len(order)))
    for a, b in zip(order[::2], order[1::2], strict=False):
        partner[a], partner[b] = b, a
    return partner


def alternating_ring(n: int, event: int) -> list[int]:
    """Each member's partner on a ring whose edges meet by turns; if N is odd, one is left out.

    Events 0, 2, ... join 0-1, 2-3, ...; events 1, 3, ... join 1-2, 3-4, ..., the last with the
    first if N is even.

    Returns:
        The partners of members 0..n-1.
    """
    return partners([*range(event % 2, n), *range(event % 2)])


def exponential_peers(n: int, event: int) -> list[int]:
    """Each member's partner n XOR 2^k, k = 0, 1, ... by turns; who has none there is its own."""
    rounds = max(1, (n - 1).bit_length())
    partner = [member ^ (1 << event % rounds) for member in range(n)]
    return [other if other < n else member for member, other in enumerate(partner)]


def start_equal(population: Population, exchange: Exchange) -> None:
    """Give everybody the weights and BatchNorm statistics of member 0, before the first step."""
    exchange.broadcast_(population.weights, 0)
    if population.layout.buffer_size:
        exchange.broadcast_(population.buffers, 0, "buffers")


def start_charges(site: CommShape, clock: StepInfo) -> list[CommEvent]:
    """What ``start_equal`` sends; it is billed with the first step."""
    if clock.step:
        return []
    charges = [charge_broadcast(site.n, site.layout.size)]
    if site.layout.buffer_size:
        charges.append(charge_broadcast(site.n, site.layout.buffer_size, "buffers"))
    return charges


def restart_from_mean(population: Population, exchange: Exchange) -> tuple[Tensor, Tensor]:
    """Set all members to their mean, BatchNorm statistics included.

    Returns:
        The mean weights (D,) and the mean float buffers (F,), which may be empty.
    """
    weights, buffers = exchange.mean(population.weights), population.buffers[0]
    population.weights[:] = weights
    if population.layout.buffer_size:
        buffers = exchange.mean(population.buffers, "buffers")
        population.buffers[:] = buffers
    return weights, buffers


def mean_charges(site: CommShape, buffers: bool = True) -> list[CommEvent]:
    """What ``restart_from_mean`` sends: a mean of the weights and, with ``buffers``, of theirs."""
    charges = [charge_mean(site.n, site.layout.size)]
    if buffers and site.layout.buffer_size:
        charges.append(charge_mean(site.n, site.layout.buffer_size, "buffers"))
    return charges
