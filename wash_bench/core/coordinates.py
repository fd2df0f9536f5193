"""Reading some coordinates of all members' rows."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def values_at(rows: Tensor, coordinates: Tensor) -> Tensor:
    """(N, K) values of (N, D) rows at (K,) coordinates."""
    import torch

    # On the CPU, index_select along the second dimension first copies all of rows that do not
    # follow one another without a gap, as a population's; row by row it copies none.
    if rows.device.type != "cpu" or rows.is_contiguous():
        return rows.index_select(1, coordinates)
    return torch.stack([row.index_select(0, coordinates) for row in rows])
