"""Sparse gossip, W-Asym and SWAD against restatements."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from tests.support.identities import make, train
from tests.support.method_checks import mean
from tests.support.method_trainings import training
from tests.support.populations import PLAN, changed, small_population
from tests.support.random_members import FakeJudge
from tests.support.wrapper_trainings import PLAN as WALK
from wash_bench.core.exchange import LocalExchange
from wash_bench.core.method import CommShape, predict_comm
from wash_bench.core.population import ModelState
from wash_bench.core.step_info import Schedule
from wash_bench.methods.papa_all import PapaAll
from wash_bench.methods.sparse_gossip import SparseGossip, draw_peers
from wash_bench.methods.swad import Swad, valley
from wash_bench.methods.w_asym import WAsym
from wash_bench.plugins.registry import find_method, make_method
from wash_bench.seeds import numpy_stream

close = {"rtol": 1e-5, "atol": 1e-6}

# Sparse gossip ----------------------------------------------------------------------------------


@pytest.mark.parametrize("peers", [0.0, 0.2, 1.0, 2.6])
def test_sparse_gossip_averages_with_random_peers_and_then_with_all(peers):
    n, every = 5, 3
    population, exchange = small_population(n), LocalExchange(n, 1)
    method = make(SparseGossip, peers=peers, every=every, merge=0.7)
    sent = 0
    for clock, before in training(method, population, exchange):
        late = clock.step >= 28
        if clock.last or ((clock.step + 1) % every and clock.step != 28):
            assert not changed(population, before)
            continue
        old = before["weights"].double().numpy()
        if late:
            np.testing.assert_allclose(population.weights, [mean(before["weights"])] * n, **close)
            np.testing.assert_allclose(population.buffers, [mean(before["buffers"])] * n, **close)
            continue
        assert torch.equal(population.buffers, before["buffers"])
        lists = draw_peers(exchange.stream("peers", clock.step), n, peers)
        for member in range(n):
            with_whom = {member} | {sources[member] for sources in lists}
            sent += (len(with_whom) - 1) * population.layout.size
            expected = old[sorted(with_whom)].mean(axis=0)
            np.testing.assert_allclose(population.weights[member], expected, **close)
    assert exchange.ledger.tallies["mean", "weights"].events == 5  # steps 28, 29, 32, 35 and 38
    fetched = exchange.ledger.tallies.get(("fetch", "weights"))
    assert (fetched.values if fetched else 0) == sent


def test_peers_are_as_many_as_asked_for_and_uniform():
    n, r, draws = 4, 1.3, 4000
    counts = np.zeros((n, n))
    for draw in range(draws):
        first, second = draw_peers(numpy_stream(0, "peers", draw), n, r)
        assert all(source != member for member, source in enumerate(first))
        for member in range(n):
            assert first[member] != second[member]
            for other in {first[member], second[member]} - {member}:
                counts[member, other] += 1
    expected = draws * r / (n - 1)
    off = counts[~np.eye(n, dtype=bool)] - expected
    assert np.abs(off).max() < 5 * math.sqrt(expected)


def test_the_window_of_global_merges_ends():
    method = make(SparseGossip, peers=0.0, every=4, merge=0.5, window=0.2)
    merged = [clock.step for clock in PLAN.clocks() if method.due(clock) and method.merges(clock)]
    assert merged == [20, 23, 27]
    never = make(SparseGossip, merge=1.0)
    assert not any(never.merges(clock) for clock in PLAN.clocks())


def test_as_many_peers_as_there_are_members_is_a_mean_of_all():
    sparse = make(SparseGossip, peers=7.5, every=10)
    for rows, others in zip(
        (train(sparse, 3).weights), train(make(PapaAll, every=1), 3).weights, strict=True
    ):
        torch.testing.assert_close(rows, others)


def test_sparse_gossip_sends_what_arithmetic_expects():
    plan = Schedule("cosine", 0.1, 1e-4, 600, 60)
    population, exchange = small_population(4), LocalExchange(4, 3)
    method = make(SparseGossip, peers=1.4, every=2, merge=0.9)
    for clock in plan.clocks():
        method.after_step(population, exchange, clock)
    expected = predict_comm(method, CommShape(population.layout, 4), plan)
    assert expected is not None and expected.sent_values_std > 0
    assert abs(exchange.ledger.sent_values - expected.sent_values) < 4 * expected.sent_values_std
    for key in (("fetch", "weights"), ("mean", "buffers")):
        assert exchange.ledger.tallies[key].events == expected.tallies[key].events


# W-Asym -----------------------------------------------------------------------------------------


def test_frozen_weights_are_shared_fixed_and_as_many_as_said():
    population, exchange = small_population(3), LocalExchange(3, 4)
    method = make(WAsym, kappa=3.0, share=0.2, first=0.5)
    first = None
    for clock, before in training(method, population, exchange):
        same_in_all = (population.weights == population.weights[0]).all(dim=0)
        first = population.weights[0][same_in_all].clone() if first is None else first
        assert torch.equal(population.weights[0][same_in_all], first)
        moved = ~same_in_all
        assert torch.equal(population.weights[:, moved], before["weights"][:, moved])
        assert population.optimizer_state["momentum"][:, same_in_all].eq(0).all()
        assert torch.equal(population.buffers, before["buffers"])
        assert clock.step < 40
    assert not exchange.ledger.tallies
    # Convolutions of 4 and 6 units with 27 and 36 incoming weights; a classifier of 3 with 6.
    for (offset, units, incoming), share in zip(
        [(0, 4, 27), (116, 6, 36), (350, 3, 6)], (0.5, 0.2, 0.2), strict=True
    ):
        part = same_in_all[offset : offset + units * incoming].view(units, incoming)
        assert (part.sum(dim=1) == max(1, round(share * incoming))).all()
        assert units < 4 or not (part == part[0]).all()
    assert int(same_in_all.sum()) == 4 * 14 + 6 * 7 + 3 * 1
    assert first.std().item() == pytest.approx(3.0, rel=0.25)


def test_nothing_frozen_is_plain_training():
    free = train(make(WAsym, share=0.0, first=0.0), 3)
    plain = train(make_method(find_method("naive-ensemble")), 3)
    assert torch.equal(free.weights, plain.weights)


def test_another_seed_freezes_other_weights():
    ends = []
    for seed in (0, 0, 1):
        population = small_population(2)
        make(WAsym).start(population, LocalExchange(2, seed))
        ends.append(population.weights.clone())
    assert torch.equal(ends[0], ends[1]) and not torch.equal(ends[0], ends[2])


# SWAD -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("losses", "chosen"),
    [
        ([5, 4, 3, 2, 1], [4]),  # it falls to the end: the last segment
        ([3, 2, 1, 2, 3, 4, 5, 6, 7, 8], [2, 3]),  # level 2.6: segment 4 sees 3 and more
        ([5, 1, 1, 1, 9, 9, 9, 1, 9, 9], [1, 2, 3, 4, 5, 6, 7]),  # a rise that ends within six
        ([1, 1, 1, 1], [0, 1, 2, 3]),
        ([2, 1], [1]),
        ([math.nan, 1, 2, 3, math.nan], [1, 2]),  # level 2.6
    ],
)
def test_the_valley_by_hand(losses, chosen):
    assert list(valley(losses, 3, 6, 0.3)) == chosen


def naive_valley(losses: list[float], c: int, e: int, r: float) -> list[int]:
    """As the published class goes along: one loss after the other, with two queues."""
    level, begin, taken = 0.0, -1, []
    for k in range(len(losses)):
        if begin < 0:
            window = losses[max(0, k - c + 1) : k + 1]
            if len(window) == c and window[0] == min(window):
                begin, level = k - c + 1, (1 + r) * sum(window) / c
    if begin < 0:
        return [len(losses) - 1]
    taken = [begin]
    for k in range(begin + 1, len(losses)):
        if all(loss > level for loss in losses[k : k + e]):
            break
        taken.append(k)
    return taken


def test_the_valley_is_what_going_along_finds():
    rng = np.random.default_rng(0)
    for _ in range(300):
        losses = rng.integers(1, 9, rng.integers(1, 25)).astype(float).tolist()
        c, e, r = int(rng.integers(1, 5)), int(rng.integers(1, 8)), float(rng.uniform(0, 1))
        assert list(valley(losses, c, e, r)) == naive_valley(losses, c, e, r)


@pytest.mark.parametrize("segments", [1, 4, 30])
def test_swad_is_the_dense_mean_over_each_members_valley(segments):
    population, exchange = small_population(2), LocalExchange(2, 0)
    population.buffers.abs_()
    method = make(Swad, segments=segments, converge=2, tolerance=2, ratio=0.1)
    population.remember(method.member_slots())
    method.start(population, exchange)
    generator = torch.Generator().manual_seed(1)
    steps: dict[int, list[np.ndarray]] = {}
    for clock in WALK.clocks():
        population.weights.add_(torch.randn(population.weights.shape, generator=generator))
        before = population.weights.clone()
        method.after_step(population, exchange, clock)
        assert torch.equal(population.weights, before)  # the training is left alone
        segment = steps.setdefault(clock.step * segments // 18, [])
        segment.append(population.weights.double().numpy().copy())
    judge = FakeJudge(population)
    losses = {0: iter([3.0, 1.0, 1.0, 1.05] * 10), 1: iter([1.0, 1.0, 5.0, 5.0] * 10)}
    count, asked = len(steps), []

    def validation_loss(state: ModelState) -> float:
        member = len(asked) // count
        asked.append(state)
        return next(losses[member])

    judge.validation_loss = validation_loss
    judge.ensemble = judge.average
    delivered = method.predictors(population, judge)
    assert next(iter(delivered)) == "swad" and "average" in delivered
    expected = np.zeros(population.layout.size)
    for member, pattern in enumerate(([3.0, 1.0, 1.0, 1.05], [1.0, 1.0, 5.0, 5.0])):
        chosen = naive_valley([pattern[k % 4] for k in range(count)], 2, 2, 0.1)
        dense = [weights[member] for k in chosen for weights in list(steps.values())[k]]
        expected += np.mean(dense, axis=0) / 2
    np.testing.assert_allclose(delivered["swad"].states[0].weights, expected, rtol=1e-4, atol=1e-5)


def test_what_chooses_the_valley_changes_no_training():
    keys = [make(Swad, ratio=ratio).training_key() for ratio in (0.1, 0.3)]
    assert keys[0] == keys[1] != make(Swad, segments=5).training_key()
