"""WASH and WASH+Opt: what a shuffle conserves, what it moves and when."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support import reference_rules
from tests.support.populations import PLAN, changed, copies, small_population, tensors
from tests.support.wash_selection import selected, wash
from wash_bench.core.exchange import LocalExchange
from wash_bench.core.sampling import draw_coordinates, draw_permutations
from wash_bench.methods.wash import Wash
from wash_bench.methods.wash_opt import WashOpt

RULES = ["linear_to_zero", "constant", "increasing", "first_k", "last_k"]
LAYERS = 5  # of the small network, counted by modules with parameters


def with_k(rule: str, k: int) -> dict[str, int]:
    """k where the layer rule takes one."""
    return {"k": k} if rule in ("first_k", "last_k") else {}


@settings(max_examples=40, deadline=None)
@given(
    kind=st.sampled_from([Wash, WashOpt]),
    n=st.integers(2, 6),
    p=st.sampled_from([0.01, 0.2, 1.0]),
    rule=st.sampled_from(RULES),
    permutation=st.sampled_from(["uniform", "derangement", "cyclic_shift"]),
    step=st.integers(0, 39),
    seed=st.integers(0, 1000),
)
def test_a_shuffle_conserves_what_it_must(kind, n, p, rule, permutation, step, seed):
    population = small_population(n, seed=seed)
    before = copies(population)
    method = wash(kind, p=p, layer_rule=rule, permutation=permutation, **with_k(rule, 2))
    method.after_step(population, LocalExchange(n, seed), PLAN.clock(step))

    old, new = before["weights"], population.weights
    assert torch.equal(old.sort(dim=0).values, new.sort(dim=0).values)  # bit for bit
    old, new = old.double(), new.double()
    torch.testing.assert_close(new.mean(0), old.mean(0), rtol=0, atol=1e-14)
    spread = ((old - old.mean(0)) ** 2).sum(), ((new - new.mean(0)) ** 2).sum()
    torch.testing.assert_close(*spread, rtol=1e-12, atol=0)

    pairs = [
        [
            sorted(zip(*column, strict=True))
            for column in zip(weights.T.tolist(), state.T.tolist(), strict=True)
        ]
        for weights, state in (
            (before["weights"], before["momentum"]),
            (population.weights, population.optimizer_state["momentum"]),
        )
    ]
    if kind is WashOpt:
        assert pairs[0] == pairs[1]
    else:
        assert torch.equal(population.optimizer_state["momentum"], before["momentum"])
    assert changed(population, before) <= {"weights", "momentum"}


@pytest.mark.parametrize("kind", [Wash, WashOpt])
@pytest.mark.parametrize("permutation", ["uniform", "derangement"])
def test_a_shuffle_equals_the_loop(kind, permutation):
    n, step = 4, 6
    method = wash(kind, p=0.3, permutation=permutation)
    population = small_population(n)
    before = copies(population)
    rng = LocalExchange(n, 9).stream("shuffle", step)
    coordinates = draw_coordinates(rng, method.pieces(population.layout, n)[0])
    sources = draw_permutations(rng, len(coordinates), n, permutation)
    assert 40 < len(coordinates) < population.layout.size

    method.after_step(population, LocalExchange(n, 9), PLAN.clock(step))

    for name in ("weights", "momentum"):
        expected = before[name].tolist()
        if name == "weights" or kind is WashOpt:
            expected = reference_rules.wash_shuffle(expected, coordinates, sources)
        assert tensors(population)[name].tolist() == expected


@pytest.mark.parametrize("kind", [Wash, WashOpt])
def test_p_zero_is_the_independent_baseline_bit_for_bit(kind):
    population = small_population(3)
    before, exchange = copies(population), LocalExchange(3, 0)
    for clock in PLAN.clocks():
        wash(kind, p=0, buffers=True).after_step(population, exchange, clock)
    assert not changed(population, before)
    assert exchange.ledger.wire_bytes == 0


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("index", ["leaf_module", "tensor", "weight_layer"])
@pytest.mark.parametrize("k", [1, 2])
def test_layer_probabilities_by_hand(rule, index, k):
    by_hand = {
        "leaf_module": [0, 1, 1, 2, 2, 3, 3, 4, 4],
        "tensor": [0, 1, 2, 3, 4, 5, 6, 7, 8],
        "weight_layer": [0, 0, 0, 1, 1, 1, 1, 2, 2],
    }[index]
    layout = small_population(2).layout
    method = wash(p=0.2, layer_rule=rule, layer_index=index, **with_k(rule, k))
    got = method.probabilities(layout, 2)
    expected = [
        reference_rules.wash_probability(rule, layer, by_hand[-1] + 1, 0.2, k) for layer in by_hand
    ]
    assert list(got.values()) == pytest.approx(expected)


@pytest.mark.slow
@pytest.mark.parametrize("rule", RULES)
def test_counts_per_layer_follow_p_l(rule):
    """Selections of 2,000 steps per tensor, within five standard deviations of the binomial."""
    population, steps = small_population(3), 2000
    method = wash(p=0.1, layer_rule=rule, **with_k(rule, 2))
    counts = np.zeros(population.layout.size)
    for step in range(steps):
        counts[selected(method, population, 0, step)] += 1
    for piece in population.layout.slices:
        p = reference_rules.wash_probability(rule, piece.leaf_module, LAYERS, 0.1, k=2)
        trials = piece.size * steps
        found = counts[piece.offset : piece.stop].sum()
        assert abs(found - trials * p) <= 5 * np.sqrt(trials * p * (1 - p))
        if piece.leaf_module == LAYERS - 1 and rule == "linear_to_zero":
            assert found == 0


def test_self_correction_makes_p_the_share_that_moves():
    layout = small_population(2).layout
    plain = wash(p=0.3, layer_rule="constant").probabilities(layout, 4)
    corrected = wash(p=0.3, layer_rule="constant", self_correction=True).probabilities(layout, 4)
    assert set(plain.values()) == {0.3}
    assert list(corrected.values()) == pytest.approx([0.4] * len(corrected))
    capped = wash(p=0.9, layer_rule="constant", self_correction=True).probabilities(layout, 2)
    assert set(capped.values()) == {1.0}


def test_include_leaves_the_other_tensors_alone():
    population = small_population(3)
    before = population.weights.clone()
    method = wash(p=1, layer_rule="constant", permutation="derangement", include="bias,norm")
    method.after_step(population, LocalExchange(3, 0), PLAN.clock(0))
    for piece in population.layout.slices:
        part = slice(piece.offset, piece.stop)
        same = torch.equal(population.weights[:, part], before[:, part])
        assert same == (piece.kind == "weight"), piece.name


def test_buffers_are_shuffled_only_if_asked_and_like_their_layer():
    for asked in (False, True):
        population = small_population(3)
        before = copies(population)
        method = wash(p=1, layer_rule="first_k", k=2, permutation="derangement", buffers=asked)
        method.after_step(population, LocalExchange(3, 0), PLAN.clock(0))
        assert changed(population, before) == ({"weights", "buffers"} if asked else {"weights"})
        for piece in population.layout.buffers:
            part = slice(piece.offset, piece.stop)
            moved = (population.buffers[:, part] != before["buffers"][:, part]).all()
            assert bool(moved) == (asked and piece.name.startswith("1."))  # the first BatchNorm


@pytest.mark.parametrize(
    ("options", "steps"),
    [
        ({}, range(40)),
        ({"every": 7}, range(0, 40, 7)),
        ({"start": 0.5}, range(20, 40)),
        ({"stop": 0.5}, range(20)),
        ({"start": 0.25, "stop": 0.3, "every": 2}, [10]),
    ],
)
def test_when_wash_shuffles(options, steps):
    acted = []
    for clock in PLAN.clocks():
        population = small_population(2)
        before = copies(population)
        wash(p=1, **options).after_step(population, LocalExchange(2, 0), clock)
        if changed(population, before):
            acted.append(clock.step)
    assert acted == list(steps)


def test_draws_depend_on_seed_and_step_alone():
    method, population = wash(p=0.1), small_population(3)
    assert np.array_equal(selected(method, population, 1, 5), selected(method, population, 1, 5))
    assert not np.array_equal(
        selected(method, population, 1, 5), selected(method, population, 1, 6)
    )
    larger = selected(wash(p=0.1), small_population(5), 1, 5)
    assert np.array_equal(selected(method, population, 1, 5), larger)
