"""What the processes that share one run tell one another beside the exchanges.

What passes here is bookkeeping (losses, validation results, the population's rows for the final
evaluation); it is not a method's exchange and stands in no ledger. No torch is imported until
there is an exchange: a run in which everything is finished needs none.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from torch import Tensor

    from wash_bench.core.exchange import Exchange


class World(Protocol):
    """One process's view of all of them.

    Attributes:
        rank: this process, from 0. Rank 0 alone writes records and reports.
        ranks: how many processes there are.
    """

    rank: int
    ranks: int

    def members(self, n: int) -> range:
        """The members, of ``n``, that this process holds."""
        ...

    def exchange(self, n: int, seed: int) -> Exchange:
        """The collectives of ``n`` members, with a fresh ledger."""
        ...

    def mean_row(self, rows: Tensor, n: int) -> Tensor:
        """The mean (D,) over all ``n`` members of ``rows`` (M, D)."""
        ...

    def collect(self, values: Sequence[Any]) -> list[Any]:
        """The values of all members in order (each process gives one a member of its own)."""
        ...

    def rows_at_main(self, rows: Tensor, n: int) -> Tensor | None:
        """All rows (N, D) at rank 0, None elsewhere."""
        ...

    def share(self, value: Any) -> Any:
        """Rank 0's value, at every process."""
        ...

    def wait(self) -> None:
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

    def mean_row(self, rows: Tensor, n: int) -> Tensor:
        return rows.mean(dim=0)

    def collect(self, values: Sequence[Any]) -> list[Any]:
        return list(values)

    def rows_at_main(self, rows: Tensor, n: int) -> Tensor | None:
        return rows

    def share(self, value: Any) -> Any:
        return value

    def wait(self) -> None:
        """Nobody to wait for."""
