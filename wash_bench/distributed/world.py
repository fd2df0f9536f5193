"""The processes that share one run, as each of them sees the others.

What passes here is bookkeeping (losses, validation results, the rows for the final evaluation). It
is not a method's exchange, so no ledger counts it. A single process imports no torch for it: a run
in which everything is finished needs none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol

from wash_bench.errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor

    from wash_bench.core.exchange import Exchange


@dataclass(frozen=True)
class Placement:
    """Which rank holds which members: N members in even contiguous blocks.

    Raises:
        UsageError: there are more ranks than members.
    """

    n: int
    ranks: int

    def __post_init__(self) -> None:
        if self.ranks > self.n:
            raise UsageError(
                f"{self.ranks} processes for {self.n} members: start at most {self.n}, "
                "or raise --population"
            )

    def members(self, rank: int) -> range:
        """Return the members of a rank; the first ``n mod ranks`` ranks have one more."""
        size, more = divmod(self.n, self.ranks)
        first = rank * size + min(rank, more)
        return range(first, first + size + (rank < more))

    @cached_property
    def owner(self) -> tuple[int, ...]:
        """The rank of each member."""
        return tuple(rank for rank in range(self.ranks) for _ in self.members(rank))


class World(Protocol):
    """One process's view of all of them.

    Attributes:
        rank: this process, from 0. Rank 0 alone writes records and reports.
        ranks: how many processes there are.
    """

    rank: int
    ranks: int

    def members(self, n: int) -> range:
        """Return the members, of ``n``, that this process holds."""
        ...

    def exchange(self, n: int, seed: int) -> Exchange:
        """Return the collectives of ``n`` members, with a fresh ledger."""
        ...

    def all_reduce_mean(self, rows: Tensor, n: int) -> Tensor:
        """Return the mean (D,) over all ``n`` members of ``rows`` (M, D)."""
        ...

    def all_gather(self, values: Sequence[Any]) -> list[Any]:
        """Return the values of all members in order; each process gives those of its own."""
        ...

    def gather_to_main(self, rows: Tensor, n: int) -> Tensor | None:
        """Return all rows (N, D) at rank 0, None elsewhere."""
        ...

    def broadcast_object(self, value: Any) -> Any:
        """Return rank 0's value, at every process."""
        ...

    def barrier(self) -> None:
        """Return once every process is here."""
        ...


class LocalWorld:
    """One process that holds all members."""

    rank = 0
    ranks = 1

    def members(self, n: int) -> range:
        return range(n)

    def exchange(self, n: int, seed: int) -> Exchange:
        from wash_bench.core.exchange import LocalExchange

        return LocalExchange(n, seed)

    def all_reduce_mean(self, rows: Tensor, n: int) -> Tensor:
        return rows.mean(dim=0)

    def all_gather(self, values: Sequence[Any]) -> list[Any]:
        return list(values)

    def gather_to_main(self, rows: Tensor, n: int) -> Tensor | None:
        return rows

    def broadcast_object(self, value: Any) -> Any:
        return value

    def barrier(self) -> None:
        """Nobody to wait for."""
