"""Exchanges of a few random coordinates: where they may lie, and what they send.

Each exchange stands beside the function that charges it.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING, Literal

import numpy as np

from wash_bench.core.layout import values_at
from wash_bench.core.ledger import CommEvent, Content, charge_mean, charge_permute

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


def average_charges(n: int, pieces: Pieces, contents: Sequence[Content]) -> list[CommEvent]:
    """What ``average_at_`` is expected to send of coordinates that are drawn from ``pieces``."""
    return _expected(pieces, contents, n, 0, lambda k, content: charge_mean(n, k / n, content))


def permute_charges(
    n: int, pieces: Pieces, contents: Sequence[Content], uniform: bool
) -> list[CommEvent]:
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
    charge: Callable[[float, Content], CommEvent],
) -> list[CommEvent]:
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


Pieces = Sequence[tuple[int, int, float]]
"""``(offset, size, p)``: neighbouring coordinates, each drawn with probability p."""
PermutationKind = Literal["uniform", "derangement"]
TABLE_LIMIT = 7  # 7! = 5,040 rows; the permutations of more members are shuffled one by one


def draw_coordinates(rng: np.random.Generator, pieces: Pieces) -> np.ndarray:
    """Select every coordinate independently, with the probability of its piece.

    A Poisson process of rate 1 runs along an axis on which each coordinate of probability p holds
    an interval of length -log(1 - p). An interval holds a point with probability p, independently
    of all others, so the coordinates whose intervals were hit are exactly the Bernoulli selection.
    One pass serves all pieces, however many probabilities there are.

    Args:
        rng: the stream to draw from.
        pieces: disjoint, offsets ascending.

    Returns:
        The selected coordinates, ascending, int64.
    """
    certain = [
        np.arange(offset, offset + size, dtype=np.int64) for offset, size, p in pieces if p >= 1
    ]
    drawn = [piece for piece in pieces if 0 < piece[2] < 1 and piece[1] > 0]
    selected = [_draw(rng, drawn)] if drawn else []
    if not certain:
        return selected[0] if selected else np.empty(0, dtype=np.int64)
    return np.sort(np.concatenate(certain + selected))


def _draw(rng: np.random.Generator, pieces: Pieces) -> np.ndarray:
    offsets = np.array([offset for offset, _, _ in pieces], dtype=np.int64)
    sizes = np.array([size for _, size, _ in pieces], dtype=np.int64)
    lengths = -np.log1p(-np.array([p for _, _, p in pieces]))
    ends = np.cumsum(sizes * lengths)

    # The points of a Poisson process, given their number, are sorted uniforms; normalized sums of
    # exponentials are sorted uniforms without a sort.
    count = int(rng.poisson(ends[-1]))
    sums = np.cumsum(rng.standard_exponential(count + 1))
    points = sums[:-1] * (ends[-1] / sums[-1])

    hits = np.diff(np.searchsorted(points, ends), prepend=0)
    hits[-1] += count - hits.sum()  # a point rounded up to the very end
    points -= np.repeat(ends - sizes * lengths, hits)
    points /= np.repeat(lengths, hits)
    within = np.clip(points.astype(np.int64), 0, np.repeat(sizes - 1, hits))
    coordinates = within + np.repeat(offsets, hits)
    first = np.ones(count, dtype=bool)
    first[1:] = coordinates[1:] != coordinates[:-1]
    return coordinates[first]


def draw_permutations(
    rng: np.random.Generator, k: int, n: int, kind: PermutationKind = "uniform"
) -> np.ndarray:
    """Draw ``k`` independent permutations of 0..n-1.

    Args:
        rng: the stream to draw from.
        k: how many.
        n: number of members.
        kind: ``uniform`` in S_n, or uniform among those without a fixed point.

    Returns:
        (k, n) int64.

    Raises:
        ValueError: if a derangement of fewer than two members is asked for.
    """
    if kind == "derangement" and n < 2:
        raise ValueError("a single member has no derangement")
    if n <= TABLE_LIMIT:
        table = _table(n, kind)
        return table[rng.integers(len(table), size=k)]
    rows = _shuffled(rng, k, n)
    if kind == "derangement":
        while (bad := np.flatnonzero((rows == np.arange(n)).any(axis=1))).size:
            rows[bad] = _shuffled(rng, bad.size, n)
    return rows


def _shuffled(rng: np.random.Generator, k: int, n: int) -> np.ndarray:
    return rng.permuted(np.tile(np.arange(n, dtype=np.int64), (k, 1)), axis=1)


@lru_cache
def _table(n: int, kind: PermutationKind) -> np.ndarray:
    rows = np.array(list(itertools.permutations(range(n))), dtype=np.int64)
    if kind == "derangement":
        rows = rows[(rows != np.arange(n)).all(axis=1)]
    rows.flags.writeable = False  # shared by all callers
    return rows
