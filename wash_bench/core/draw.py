"""Which coordinates are exchanged, and how: the random draws of the shuffling methods.

Both functions cost time in proportion to what is selected, not to the size of the network, which
is what makes a shuffle cheap at the small probabilities that are used.
"""

import itertools
from collections.abc import Sequence
from functools import lru_cache
from typing import Literal

import numpy as np

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
