"""An exchange that hands everything on to another: what changes a part inherits the rest."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from wash_bench.core.ledger import Content, Ledger

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from wash_bench.core.exchange import Exchange


class PassedOn:
    """Implements ``exchange.Exchange`` by another one, ``inner``, whose ledger it shares."""

    def __init__(self, inner: Exchange) -> None:
        self._inner = inner
        self.n, self.seed = inner.n, inner.seed
        self.ledger: Ledger = inner.ledger

    def stream(self, purpose: str, *counters: int) -> np.random.Generator:
        return self._inner.stream(purpose, *counters)

    def mean(self, rows: Tensor, content: Content = "weights") -> Tensor:
        return self._inner.mean(rows, content)

    def gather(
        self, rows: Tensor, content: Content = "weights", stands_for: int | None = None
    ) -> Tensor:
        return self._inner.gather(rows, content, stands_for)

    def fetch(
        self,
        rows: Tensor,
        sources: Sequence[int],
        content: Content = "weights",
        stands_for: int | None = None,
    ) -> Tensor:
        return self._inner.fetch(rows, sources, content, stands_for)

    def permute_(
        self, tensors: Sequence[tuple[Tensor, Content]], coordinates: Tensor, sources: Tensor
    ) -> None:
        self._inner.permute_(tensors, coordinates, sources)

    def broadcast_(self, rows: Tensor, source: int, content: Content = "weights") -> None:
        self._inner.broadcast_(rows, source, content)
