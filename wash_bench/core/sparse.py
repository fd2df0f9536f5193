"""Exchanges of a few random coordinates: where they may lie, and what they send.

Each exchange stands beside the function that charges it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from wash_bench.core.coordinates import values_at
from wash_bench.core.draw import Pieces
from wash_bench.core.ledger import Charge, Content, charge_mean, charge_permute

if TYPE_CHECKING:
    from torch import Tensor

    from wash_bench.core.exchange import Exchange
    from wash_bench.core.layout import Slice


def pieces_of(slices: Iterable[Slice], p: Mapping[str, float]) -> Pieces:
    """``(offset, size, p)`` of the tensors that coordinates can be drawn from, given p by name."""
    return [
        (piece.offset, piece.size, p[piece.name])
        for piece in slices
        if piece.size and p.get(piece.name, 0.0) > 0
    ]


def average_at_(
    exchange: Exchange, tensors: Sequence[tuple[Tensor, Content]], coordinates: Tensor
) -> None:
    """Replace chosen coordinates (K,) of tensors (N, D) by their means over all members."""
    for rows, content in tensors:
        where = coordinates.to(rows.device)
        mean_K = exchange.mean(values_at(rows, where), content)
        rows.index_copy_(1, where, mean_K.expand(len(rows), -1))


def average_charges(n: int, pieces: Pieces, contents: Sequence[Content]) -> list[Charge]:
    """What ``average_at_`` is expected to send of coordinates that are drawn from ``pieces``."""
    return _expected(pieces, contents, n, 0, lambda k, content: charge_mean(n, k / n, content))


def permute_charges(
    n: int, pieces: Pieces, contents: Sequence[Content], uniform: bool
) -> list[Charge]:
    """What a shuffle is expected to send of coordinates that are drawn from ``pieces``."""
    # A uniform permutation moves N - 1 values on average with variance 1; under a derangement or a
    # shift none stays.
    moved, variance = (n - 1, 1) if uniform else (n, 0)
    return _expected(pieces, contents, moved, variance, charge_permute)


def _expected(
    pieces: Pieces,
    contents: Sequence[Content],
    m: int,
    v: int,
    charge: Callable[[float, Content], Charge],
) -> list[Charge]:
    """The charges of coordinates that, if drawn, send m values with variance v."""
    if not pieces:
        return []
    # With the Bernoulli selection in front, a coordinate sends m p values on average.
    mean = sum(size * p * m for _, size, p in pieces)
    variance = sum(size * ((v + m * m) * p - (m * p) ** 2) for _, size, p in pieces)
    # One draw serves all tensors, so their counts are equal, not independent: each charge carries
    # what it adds to the variance of the sum, (j+1)^2 - j^2 for the j-th.
    return [
        replace(charge(mean, content), variance=(2 * j + 1) * variance * (content != "buffers"))
        for j, content in enumerate(contents)
    ]
