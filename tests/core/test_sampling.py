"""The random draws: Bernoulli selections and uniform permutations."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from wash_bench.core.sampling import draw_coordinates, draw_permutations


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    parts=st.lists(
        st.tuples(
            st.integers(0, 20),
            st.integers(0, 300),
            st.sampled_from([0.0, 1e-300, 1e-9, 0.001, 0.3, 1 - 1e-12, 1.0]),
        ),
        max_size=6,
    ),
)
def test_drawn_coordinates_are_ascending_and_within_their_pieces(seed, parts):
    pieces, end = [], 0
    for gap, size, p in parts:
        pieces.append((end + gap, size, p))
        end += gap + size
    drawn = draw_coordinates(np.random.default_rng(seed), pieces)
    assert drawn.dtype == np.int64
    assert (np.diff(drawn) > 0).all()
    count = 0
    for offset, size, p in pieces:
        inside = int(((drawn >= offset) & (drawn < offset + size)).sum())
        count += inside
        assert p != 0 or inside == 0
        assert p != 1 or inside == size
    assert count == len(drawn)


@pytest.mark.slow
@pytest.mark.parametrize("p", [0.01, 0.3, 0.9])
def test_each_coordinate_is_selected_alone_with_its_probability(p):
    """Marginals, and the joint law of two neighbours, over 10,000 draws."""
    rng, draws, size = np.random.default_rng(1), 10_000, 6
    hits = np.zeros((draws, size), dtype=bool)
    for row in hits:
        row[draw_coordinates(rng, [(0, 2, p), (2, 4, p / 2)])] = True
    for i, expected in enumerate([p, p, *[p / 2] * 4]):
        assert stats.binomtest(int(hits[:, i].sum()), draws, expected).pvalue > 1e-4
    for i in range(size - 1):
        joint = [p, p, *[p / 2] * 4][i] * [p, p, *[p / 2] * 4][i + 1]
        both = int((hits[:, i] & hits[:, i + 1]).sum())
        assert stats.binomtest(both, draws, joint).pvalue > 1e-4


@pytest.mark.parametrize(("n", "kinds"), [(3, 6), (4, 24)])
def test_permutations_are_uniform(n, kinds):
    drawn = draw_permutations(np.random.default_rng(2), 24_000, n)
    _, counts = np.unique(drawn, axis=0, return_counts=True)
    assert len(counts) == kinds
    assert stats.chisquare(counts).pvalue > 1e-4


@pytest.mark.parametrize(("n", "kinds"), [(2, 1), (3, 2), (4, 9)])
def test_derangements_are_uniform_and_have_no_fixed_point(n, kinds):
    drawn = draw_permutations(np.random.default_rng(3), 9_000, n, "derangement")
    assert not (drawn == np.arange(n)).any()
    _, counts = np.unique(drawn, axis=0, return_counts=True)
    assert len(counts) == kinds
    assert kinds == 1 or stats.chisquare(counts).pvalue > 1e-4


@pytest.mark.parametrize("kind", ["uniform", "derangement"])
def test_populations_too_large_for_a_table(kind):
    n, draws = 9, 9_000
    drawn = draw_permutations(np.random.default_rng(4), draws, n, kind)
    assert (np.sort(drawn, axis=1) == np.arange(n)).all()
    assert (kind == "derangement") == (not (drawn == np.arange(n)).any())
    first = np.bincount(drawn[:, 0], minlength=n)
    assert stats.chisquare(first[1:] if kind == "derangement" else first).pvalue > 1e-4
