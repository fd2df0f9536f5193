"""PAPA-2: which parents members get, and what their children are."""

from __future__ import annotations

from collections import Counter
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.averaging_rules import close, move
from tests.support.populations import PLAN, changed, copies, small_population
from wash_bench.core.exchange import LocalExchange
from wash_bench.methods.papa_2 import Papa2, Papa2Options, draw_parents, own_parents


@given(n=st.integers(2, 9), seed=st.integers(0, 10**6))
def test_sampled_parents_are_distinct_pairs(n: int, seed: int):
    first, second = draw_parents(np.random.default_rng(seed), n, "sampled")
    pairs = [frozenset(pair) for pair in zip(first, second, strict=True)]
    assert all(len(pair) == 2 for pair in pairs)
    assert len(set(pairs)) == (n if n > 2 else 1)
    assert all(second[member] != member for member in range(n))  # one's own row is fetched first


@given(n=st.integers(2, 9), seed=st.integers(0, 10**6))
def test_matched_partners_have_each_other(n: int, seed: int):
    first, partner = draw_parents(np.random.default_rng(seed), n, "matching")
    assert first == list(range(n))
    assert all(partner[partner[member]] == member for member in range(n))
    assert sum(partner[member] == member for member in range(n)) == n % 2


@pytest.mark.parametrize("pairing", ["sampled", "matching"])
def test_all_ten_pairs_of_five_members_are_equally_likely(pairing: str):
    rng, counts, alone = np.random.default_rng(0), Counter(), Counter()
    draws = 4000
    for _ in range(draws):
        first, second = draw_parents(rng, 5, pairing)
        for a, b in zip(first, second, strict=True):
            counts[frozenset((a, b))] += 1
            alone[a] += a == b
    per_draw = {"sampled": 5, "matching": 4}[pairing]  # both partners name a matched pair
    for pair in combinations(range(5), 2):
        assert counts[frozenset(pair)] == pytest.approx(draws * per_draw / 10, rel=0.1)
    if pairing == "matching":
        assert all(alone[member] == pytest.approx(draws / 5, rel=0.15) for member in range(5))


@pytest.mark.parametrize("n", [2, 3, 4, 5])
def test_moments_of_own_parents_by_enumeration(n: int):
    """All ordered choices of N different pairs, uniformly: the first two positions suffice."""
    pairs = list(combinations(range(n), 2))
    if n == 2:
        assert own_parents(2) == (2.0, 0.0)
        return
    both = [(e, f) for e in pairs for f in pairs if e != f]
    joint = {
        (a, b): sum(a in e and b in f for e, f in both) / len(both)
        for a in range(n)
        for b in range(n)
        if a != b
    }
    single = [sum(a in e for e in pairs) / len(pairs) for a in range(n)]
    mean = sum(single)
    second_moment = mean + sum(joint.values())
    assert own_parents(n) == pytest.approx((mean, second_moment - mean**2))


@pytest.mark.parametrize("pairing", ["sampled", "matching"])
@pytest.mark.parametrize("n", [2, 3, 5])
def test_children_are_halves_of_two_parents(pairing: str, n: int):
    population, exchange = small_population(n), LocalExchange(n, 4)
    method = Papa2(Papa2Options(pairing=pairing, every=2))
    for clock in PLAN.clocks():
        move(population, clock)
        before = copies(population)
        method.after_step(population, exchange, clock)
        if clock.step not in (9, 29):
            assert not changed(population, before)
            continue
        assert changed(population, before) == {"weights", "buffers"}
        old, new = before["weights"].double().numpy(), population.weights.numpy()
        statistics = before["buffers"].double().numpy()
        taken = []
        for member in range(n):  # which pair a child came from is read off its weights
            candidates = [*combinations(range(n), 2), (member, member)]
            errors = [np.abs((old[a] + old[b]) / 2 - new[member]).max() for a, b in candidates]
            pair = candidates[int(np.argmin(errors))]
            assert min(errors) < 1e-5
            close(population.buffers[member], (statistics[pair[0]] + statistics[pair[1]]) / 2)
            taken.append(pair)
        alone = [pair for pair in taken if pair[0] == pair[1]]
        if pairing == "matching":
            assert len(alone) == n % 2
            close(population.weights.mean(dim=0), old.mean(axis=0))
        else:
            assert not alone and len(set(taken)) == (n if n > 2 else 1)
