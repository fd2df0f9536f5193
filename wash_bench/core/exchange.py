"""The only way in which a method reaches other members, so that no byte is forgotten."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from wash_bench.core.layout import values_at
from wash_bench.core.ledger import (
    CommLedger,
    Content,
    charge_broadcast,
    charge_fetch,
    charge_gather,
    charge_mean,
    charge_permute,
)
from wash_bench.data.device import to_device
from wash_bench.seeds import numpy_stream

# Shapes. N: members, D: coordinates of the tensors exchanged, K: chosen coordinates.
#
# Invariants. Every collective adds to the ledger exactly what it sends, before it sends it. All
# processes make the same calls in the same order with the same coordinates, drawn from ``stream``:
# that is why no index travels, and why the ledger is the same on every rank and for any number of
# ranks. A population's rows are changed in place, never replaced.


class Exchange(Protocol):
    """The collectives that a method may use; every call is entered in the ledger.

    Attributes:
        n: number of members of the population.
        seed: the run's seed, shared by everybody, from which coordinates are drawn.
        ledger: the book.
    """

    n: int
    seed: int
    ledger: CommLedger

    def stream(self, purpose: str, *counters: int) -> np.random.Generator:
        """A random stream that every member draws alike, so that indices need not travel."""
        ...

    def mean(self, rows: Tensor, content: Content = "weights") -> Tensor:
        """The mean (D,) over all members of ``rows`` (N, D); all-reduce."""
        ...

    def permute_(
        self,
        tensors: Sequence[tuple[Tensor, Content]],
        coordinates: Tensor,
        sources: Tensor,
    ) -> None:
        """Shuffle chosen coordinates of tensors (N, D) in place, all by one shuffle; all-to-all.

        Member n receives, at ``coordinates[k]``, the values of member ``sources[k, n]``; every
        row of ``sources`` (K, N) is a permutation of 0..N-1. Values that stay are not sent.
        """
        ...

    def broadcast_(self, rows: Tensor, source: int, content: Content = "weights") -> None:
        """Everybody's row of ``rows`` (N, D) becomes the row of member ``source``."""
        ...

    def gather(
        self, rows: Tensor, content: Content = "weights", stands_for: int | None = None
    ) -> Tensor:
        """All rows (N, D), known to everybody; all-gather.

        ``stands_for`` is the number of scalars that a row is a code of, if it is one.
        """
        ...

    def fetch(
        self,
        rows: Tensor,
        sources: Sequence[int],
        content: Content = "weights",
        stands_for: int | None = None,
    ) -> Tensor:
        """Rows of others: member n receives the row of member ``sources[n]``; point to point.

        Pairs are ``sources[n]`` = n's partner, neighbours on a ring ``sources[n] = (n + 1) % N``.
        ``stands_for`` is the number of scalars that a row is a code of, if it is one.
        """
        ...


class BookedExchange:
    """What every implementation shares: the streams, and the book of what the members send."""

    def __init__(self, n: int, seed: int) -> None:
        self.n = n
        self.seed = seed
        self.ledger = CommLedger(n)

    def stream(self, purpose: str, *counters: int) -> np.random.Generator:
        return numpy_stream(self.seed, purpose, *counters)

    def book_permute(
        self, tensors: Sequence[tuple[Tensor, Content]], coordinates: Tensor, sources: Tensor
    ) -> int:
        """Charge a shuffle; how many values of each tensor change owner."""
        moves = sources != torch.arange(self.n)
        moved = int(moves.sum())
        for rows, content in tensors:
            charge = charge_permute(moved, content, rows.element_size())
            mask = self.ledger.dead
            if mask is not None and rows.shape[1] == len(mask) and content != "buffers":
                dead = int(moves[mask[coordinates.cpu()]].sum())
                charge = replace(charge, dead_bytes=dead * rows.element_size())
            self.ledger.add(charge)
        return moved


class LocalExchange(BookedExchange):
    """All members in one process. It charges what the same collectives would send over a wire."""

    def mean(self, rows: Tensor, content: Content = "weights") -> Tensor:
        self.ledger.add(charge_mean(self.n, rows.shape[1], content, rows.element_size()))
        return rows.mean(dim=0)

    def permute_(
        self,
        tensors: Sequence[tuple[Tensor, Content]],
        coordinates: Tensor,
        sources: Tensor,
    ) -> None:
        if self.book_permute(tensors, coordinates, sources) == 0:
            return
        device = tensors[0][0].device
        coordinates, sources_NK = to_device(coordinates, device), to_device(sources.T, device)
        for rows, _ in tensors:
            values_NK = values_at(rows, coordinates)
            rows.index_copy_(1, coordinates, values_NK.gather(0, sources_NK))

    def broadcast_(self, rows: Tensor, source: int, content: Content = "weights") -> None:
        self.ledger.add(charge_broadcast(self.n, rows.shape[1], content, rows.element_size()))
        rows.copy_(rows[source].clone().expand_as(rows))

    def gather(
        self, rows: Tensor, content: Content = "weights", stands_for: int | None = None
    ) -> Tensor:
        size, item = rows.shape[1], rows.element_size()
        self.ledger.add(charge_gather(self.n, size, content, item, stands_for))
        return rows

    def fetch(
        self,
        rows: Tensor,
        sources: Sequence[int],
        content: Content = "weights",
        stands_for: int | None = None,
    ) -> Tensor:
        size, item = rows.shape[1], rows.element_size()
        self.ledger.add(charge_fetch(sources, size, content, item, stands_for))
        return rows[list(sources)]
