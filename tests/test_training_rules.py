"""Rules that average or cross the members, against restatements in plain loops."""

from __future__ import annotations

import math
from collections import Counter
from itertools import combinations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from tests import oracle
from tests.populations import PLAN, changed, copies, small_population, tensors
from tests.ranks import in_ranks
from wash_bench.core.bill import bill
from wash_bench.core.clock import Clock, Schedule
from wash_bench.core.exchange import LocalExchange
from wash_bench.core.judge import Predictor
from wash_bench.core.ledger import Ledger
from wash_bench.core.method import Method, Site
from wash_bench.core.population import ModelState, Population
from wash_bench.distributed.exchange import DistributedExchange
from wash_bench.methods.diloco import Diloco, DilocoOptions
from wash_bench.methods.local_sgd import LocalSgd, LocalSgdOptions
from wash_bench.methods.papa_2 import Papa2, Papa2Options, draw_parents, own_parents
from wash_bench.methods.papa_all import PapaAll, PapaAllOptions
from wash_bench.methods.post_local_sgd import PostLocalSgd, PostLocalSgdOptions
from wash_bench.methods.sparta import Sparta, SpartaOptions
from wash_bench.methods.sparta_diloco import SpartaDiloco, SpartaDilocoOptions

LAST = PLAN.steps - 1


def move(population: Population, clock: Clock) -> None:
    """What stands for an optimizer step: every member moves in a direction of its own."""
    for row, member in enumerate(population.members):
        generator = torch.Generator().manual_seed(1000 * clock.step + member)
        for rows in (population.weights, population.buffers):
            rows[row] += 0.1 * torch.randn(rows.shape[1], generator=generator)


def close(rows: torch.Tensor, expected) -> None:
    np.testing.assert_allclose(rows.numpy(), np.asarray(expected), rtol=1e-4, atol=1e-5)


# When the whole population is averaged -----------------------------------------------------------


def papa_epochs(epochs: int, every: int) -> list[int]:
    return [epoch for epoch in range(0, epochs, every) if epoch != epochs - 1]


def local_steps(steps: int, every: int) -> list[int]:
    since, events = 0, []
    for step in range(steps - 1):
        since += 1
        if since == every:
            events.append(step)
            since = 0
    return events


def post_local_steps(steps: int, every: int, synchronous: int) -> list[int]:
    late = [synchronous + step for step in local_steps(steps - synchronous, every)]
    return [step for step in range(synchronous) if step != steps - 1] + late


MEANS = [
    (LocalSgd(LocalSgdOptions(every=7)), local_steps(40, 7)),
    (LocalSgd(LocalSgdOptions(every=40)), []),
    (LocalSgd(LocalSgdOptions(every=1)), list(range(39))),
    (PostLocalSgd(PostLocalSgdOptions(every=6, switch=0.28)), post_local_steps(40, 6, 11)),
    (PostLocalSgd(PostLocalSgdOptions(every=3, switch=0)), local_steps(40, 3)),
    (PostLocalSgd(PostLocalSgdOptions(switch=1.0)), list(range(39))),
    (PapaAll(PapaAllOptions(every=1)), [9, 19, 29]),
    (PapaAll(PapaAllOptions(every=2)), [9, 29]),
    (PapaAll(), [9]),
]


@pytest.mark.parametrize(("method", "moments"), MEANS)
def test_members_become_their_mean_at_the_right_moments(method: Method, moments: list[int]):
    population, exchange = small_population(3), LocalExchange(3, 0)
    for clock in PLAN.clocks():
        move(population, clock)
        before = copies(population)
        method.after_step(population, exchange, clock)
        if clock.step not in moments:
            assert not changed(population, before)
            continue
        assert changed(population, before) == {"weights", "buffers"}  # momentum stays
        for name in ("weights", "buffers"):
            close(tensors(population)[name], [oracle.mean(before[name].tolist())] * 3)


def test_papa_all_merges_after_every_fifth_epoch_but_the_last():
    """300 epochs: after epochs 0, 5, ..., 295; a training that ends on such an epoch rests."""
    for epochs in (300, 296):
        plan = Schedule("cosine", 0.1, 1e-4, 3 * epochs, 3)
        epochs_due = [clock.epoch for clock in plan.clocks() if PapaAll().due(clock)]
        assert epochs_due == papa_epochs(epochs, 5)
        assert all(clock.epoch_end for clock in plan.clocks() if PapaAll().due(clock))
    assert papa_epochs(300, 5)[-1] == 295 and papa_epochs(296, 5)[-1] == 290


def test_the_switch_of_post_local_sgd_is_not_lost_to_rounding():
    plan = Schedule("constant", 0.1, 0.1, 100, 10)
    assert PostLocalSgd(PostLocalSgdOptions(switch=0.29)).switch_steps(plan.clock(0)) == 29


@pytest.mark.parametrize("kind", [LocalSgd, PostLocalSgd, PapaAll, Papa2, Diloco])
def test_buffers_may_be_left_alone(kind: type[Method]):
    method = kind(kind.Options(every=1, buffers=False))
    population, exchange = small_population(4), LocalExchange(4, 0)
    method.start(population, exchange)
    population.buffers.copy_(small_population(4).buffers)
    before = copies(population)
    before["weights"] = small_population(4).weights
    for clock in PLAN.clocks():
        method.after_step(population, exchange, clock)
    assert changed(population, before) == {"weights"}
    assert ("fetch" if kind is Papa2 else "mean", "buffers") not in exchange.ledger.tallies


# PAPA-2 ------------------------------------------------------------------------------------------


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


# DiLoCo ------------------------------------------------------------------------------------------

OUTER = [(0.7, 0.9, True), (0.7, 0.9, False), (1.0, 0.0, True), (0.3, 0.5, True), (1.2, 0.0, False)]


@pytest.mark.parametrize(("lr", "momentum", "nesterov"), OUTER)
def test_diloco_equals_the_outer_optimizer_of_torch(lr, momentum, nesterov):
    population, exchange = small_population(3), LocalExchange(3, 0)
    options = DilocoOptions(every=6, outer_lr=lr, outer_momentum=momentum, nesterov=nesterov)
    method = Diloco(options)
    method.start(population, exchange)
    outer = torch.nn.Parameter(small_population(3).weights[0].double())
    sgd = torch.optim.SGD([outer], lr, momentum=momentum, nesterov=nesterov and momentum > 0)

    def outer_step() -> None:
        mean = torch.tensor(oracle.mean(population.weights.tolist())).double()
        outer.grad = outer.detach() - mean
        sgd.step()

    for clock in PLAN.clocks():
        move(population, clock)
        before = copies(population)
        if clock.step in local_steps(40, 6):
            outer_step()
            method.after_step(population, exchange, clock)
            assert changed(population, before) == {"weights", "buffers"}
            close(population.weights, outer.detach().expand(3, -1))
            close(population.buffers, [oracle.mean(before["buffers"].tolist())] * 3)
        else:
            method.after_step(population, exchange, clock)
            assert not changed(population, before)
    # The last outer step is the merge.
    average = ModelState.mean(population.states())
    predictors = method.predictors(population, _Averages(average))
    outer_step()
    assert list(predictors) == ["global", "average"]
    close(predictors["global"].states[0].weights, outer.detach())
    assert torch.equal(predictors["global"].states[0].buffers, average.buffers + 1)
    assert predictors["global"].members == (0, 1, 2)
    assert torch.equal(predictors["average"].states[0].weights, average.weights)


class _Averages:
    """As much of a judge as the rule asks for."""

    def __init__(self, state: ModelState) -> None:
        self.state = state

    def average(self) -> Predictor:
        return Predictor([self.state], (0, 1, 2))

    def reestimated(self, state: ModelState) -> ModelState:
        return ModelState(state.weights, state.buffers + 1, state.counters)


# SPARTA ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("buffers", [False, True])
@pytest.mark.parametrize("selector", ["random", "partitioned"])
def test_sparta_replaces_whole_coordinates_by_their_mean(selector: str, buffers: bool):
    population, exchange = small_population(3), LocalExchange(3, 7)
    options = SpartaOptions(p=0.2, selector=selector, every=2, buffers=buffers)
    method, hit = Sparta(options), {"weights": 0, "buffers": 0}
    for clock in PLAN.clocks():
        move(population, clock)
        before = copies(population)
        method.after_step(population, exchange, clock)
        due = clock.step % 2 == 1 and clock.step != LAST
        assert bool(changed(population, before)) == due
        for name in ("weights", "buffers"):
            old, new = before[name], tensors(population)[name]
            touched = (old != new).any(dim=0)
            hit[name] += int(touched.sum())
            mean = np.array(oracle.mean(old.tolist()))
            close(new[:, touched], np.tile(mean[touched.numpy()], (3, 1)))
            assert torch.equal(new[:, ~touched], old[:, ~touched])
    for name, size in (("weights", population.weights.shape[1]), ("buffers", 20)):
        expected = 19 * 0.2 * size if name == "weights" or buffers else 0
        assert hit[name] == pytest.approx(expected, abs=5 * math.sqrt(expected))


@pytest.mark.parametrize("p", [0.3, 0.25, 0.07, 1.0])
def test_partitioned_coordinates_have_one_turn_a_cycle(p: float):
    size, method = 101, Sparta(SpartaOptions(p=p, selector="partitioned"))
    parts = math.ceil(round(1 / p, 9))
    exchange = LocalExchange(3, 2)
    clocks = [PLAN.clock(step) for step in range(2 * parts)]
    turns = [method.select(size, "weights", exchange, clock) for clock in clocks]
    one, two = turns[:parts], turns[parts:]
    for cycle in (one, two):
        assert sorted(np.concatenate(cycle).tolist()) == list(range(size))
        assert max(map(len, cycle)) - min(map(len, cycle)) <= 1
    if parts > 1:
        assert any(not np.array_equal(a, b) for a, b in zip(one, two, strict=True))


def test_more_parts_than_coordinates_are_not_made():
    method = Sparta(SpartaOptions(p=0.001, selector="partitioned"))
    exchange = LocalExchange(3, 2)
    turns = [method.select(5, "weights", exchange, PLAN.clock(step)) for step in range(5)]
    assert sorted(np.concatenate(turns).tolist()) == [0, 1, 2, 3, 4]


def test_sparta_diloco_is_one_rule_after_the_other():
    both = SpartaDiloco(SpartaDilocoOptions(every=6, p=0.3, sparse_every=2))
    sparse, outer = Sparta(SpartaOptions(p=0.3, every=2)), Diloco(DilocoOptions(every=6))
    one, two = small_population(3), small_population(3)
    exchange = LocalExchange(3, 1)
    both.start(one, exchange)
    outer.start(two, exchange)
    for clock in PLAN.clocks():
        for population in (one, two):
            move(population, clock)
        both.after_step(one, exchange, clock)
        sparse.after_step(two, exchange, clock)
        outer.after_step(two, exchange, clock)
        assert torch.equal(one.weights, two.weights) and torch.equal(one.buffers, two.buffers)


# Bytes, memory, ranks ----------------------------------------------------------------------------

EXACT = [
    *(method for method, _ in MEANS),
    LocalSgd(LocalSgdOptions(every=3, buffers=False)),
    Papa2(Papa2Options(pairing="matching", every=2)),
    Papa2(Papa2Options(pairing="matching", every=1, buffers=False)),
    Diloco(DilocoOptions(every=7)),
    Diloco(),
    Sparta(SpartaOptions(p=0.03, selector="partitioned", buffers=True)),
    Sparta(SpartaOptions(p=0.0)),
    Sparta(SpartaOptions(p=1.0, every=3)),
    SpartaDiloco(SpartaDilocoOptions(every=9, p=0.07, selector="partitioned", sparse_every=2)),
]


def run(method: Method, plan: Schedule, n: int, seed: int = 3) -> tuple[Ledger, Site]:
    population, exchange = small_population(n), LocalExchange(n, seed)
    method.start(population, exchange)
    for clock in plan.clocks():
        method.after_step(population, exchange, clock)
    return exchange.ledger, Site(population.layout, n)


@pytest.mark.parametrize("n", [1, 2, 5])
@pytest.mark.parametrize("method", EXACT)
def test_deterministic_rules_cost_exactly_what_arithmetic_says(method: Method, n: int):
    ledger, site = run(method, PLAN, n)
    assert bill(method, site, PLAN) == ledger
    assert (ledger.wire_bytes > 0) == (n > 1 and _acts(method))


def _acts(method: Method) -> bool:
    return getattr(method.options, "p", 1.0) > 0 and method.options.every != 40


@pytest.mark.parametrize("n", [2, 3, 5])
@pytest.mark.parametrize(
    "method",
    [
        Papa2(Papa2Options(every=1)),
        Sparta(SpartaOptions(p=0.1)),
        Sparta(SpartaOptions(p=0.4, every=3, buffers=True)),
        SpartaDiloco(SpartaDilocoOptions(every=30, p=0.1)),
    ],
)
def test_drawn_rules_cost_what_arithmetic_expects(method: Method, n: int):
    plan = Schedule("cosine", 0.1, 1e-4, 600, 2)
    ledger, site = run(method, plan, n)
    expected = bill(method, site, plan)
    spread = expected.sent_values_std
    assert (spread > 0) == (not isinstance(method, Papa2) or n > 2)
    assert abs(ledger.sent_values - expected.sent_values) <= 5 * spread
    assert ledger.wire_bytes == pytest.approx(expected.wire_bytes, rel=0.05)
    assert {key: tally.events for key, tally in ledger.tallies.items()} == {
        key: tally.events for key, tally in expected.tallies.items()
    }


@pytest.mark.parametrize(
    "method",
    [
        Papa2(Papa2Options(every=1)),
        Sparta(SpartaOptions(p=0.1)),
        SpartaDiloco(SpartaDilocoOptions(p=0.2)),
    ],
)
def test_the_variance_of_the_total_is_the_measured_one(method: Method):
    """Over 2,000 single exchanges; the sample variance has a relative error of about 3 %."""
    n, clock = 5, PLAN.clock(9)
    population, totals = small_population(n), []
    for seed in range(2000):
        exchange = LocalExchange(n, seed)
        method.after_step(population, exchange, clock)
        totals.append(exchange.ledger.sent_values * n)
    one = Ledger(n)
    for charge in method.charges(Site(population.layout, n), clock):
        one.add(charge)
    sample = torch.tensor(totals, dtype=torch.float64)
    assert sample.mean() == pytest.approx(one.sent_values * n, rel=0.02)
    assert sample.var() == pytest.approx((one.sent_values_std * n) ** 2, rel=0.15)


MEMORY = [
    lambda: Diloco(DilocoOptions(every=6)),
    lambda: SpartaDiloco(SpartaDilocoOptions(every=6, p=0.2, selector="partitioned")),
    lambda: Sparta(SpartaOptions(p=0.15, selector="partitioned")),
    lambda: Papa2(Papa2Options(every=1)),
    lambda: PostLocalSgd(PostLocalSgdOptions(every=4)),
]


@pytest.mark.parametrize("make", MEMORY)
@pytest.mark.parametrize("stop", [9, 19, 20])
def test_a_resumed_training_gives_the_same_bits(make, stop: int):
    whole, stopped = small_population(3), small_population(3)
    exchange = LocalExchange(3, 5)
    method, first = make(), make()
    method.start(whole, exchange)
    first.start(stopped, exchange)
    for clock in PLAN.clocks():
        move(whole, clock)
        method.after_step(whole, exchange, clock)
        move(stopped, clock)
        first.after_step(stopped, exchange, clock)
        if clock.step == stop:  # a new process: a new object, fed with what was saved
            saved = {name: tensor.clone() for name, tensor in first.state_dict().items()}
            first = make()
            first.load_state_dict(saved)
    assert torch.equal(whole.weights, stopped.weights)
    assert torch.equal(whole.buffers, stopped.buffers)
    for name, tensor in method.state_dict().items():
        assert tensor.shape == (whole.weights.shape[1],)
        assert torch.equal(tensor, first.state_dict()[name])


def test_a_method_that_starts_again_forgets_the_last_training():
    method = Diloco(DilocoOptions(every=6))
    ends = []
    for _ in range(2):
        population, exchange = small_population(3), LocalExchange(3, 5)
        method.start(population, exchange)
        for clock in PLAN.clocks():
            move(population, clock)
            method.after_step(population, exchange, clock)
        ends.append(population.weights)
    assert torch.equal(*ends)


RULES = [
    LocalSgd(LocalSgdOptions(every=5)),
    Papa2(Papa2Options(every=1)),
    Papa2(Papa2Options(every=1, pairing="matching")),
    Sparta(SpartaOptions(p=0.02, buffers=True)),  # of 20 buffers often none
    SpartaDiloco(SpartaDilocoOptions(every=6, p=0.2, selector="partitioned")),
]


def _train_all(exchange, members: range) -> list[tuple[torch.Tensor, dict]]:
    ends = []
    for method in RULES:
        full = small_population(3)
        population = full.with_rows(
            full.weights[members.start : members.stop].clone(),
            full.buffers[members.start : members.stop].clone(),
            full.counters[members.start : members.stop].clone(),
        )
        population.members = members
        exchange.ledger = Ledger(3)
        method.start(population, exchange)
        for clock in PLAN.clocks():
            move(population, clock)
            method.after_step(population, exchange, clock)
        rows = torch.cat([population.weights, population.buffers], dim=1)
        ends.append((rows, exchange.ledger.as_dict()))
    return ends


def _in_rank() -> list:
    exchange = DistributedExchange(3, seed=0)
    return _train_all(exchange, exchange.members)


@pytest.mark.slow
def test_spread_over_two_processes_the_rules_give_the_same():
    answers = in_ranks(2, _in_rank)
    expected = _train_all(LocalExchange(3, seed=0), range(3))
    for index, (rows, ledger) in enumerate(expected):
        together = torch.cat([answer[index][0] for answer in answers])
        torch.testing.assert_close(together, rows, rtol=1e-4, atol=1e-5)
        assert all(answer[index][1] == ledger for answer in answers)


# Around the rules --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "values", "word"),
    [
        (LocalSgdOptions, {"every": 0}, "greater than or equal to 1"),
        (PostLocalSgdOptions, {"switch": 1.5}, "less than or equal to 1"),
        (PapaAllOptions, {"switch": 0.5}, "Extra inputs"),
        (Papa2Options, {"pairing": "ring"}, "'sampled' or 'matching'"),
        (DilocoOptions, {"outer_momentum": 1.0}, "less than 1"),
        (DilocoOptions, {"outer_lr": 0.0}, "greater than 0"),
        (SpartaOptions, {"p": 1.5}, "less than or equal to 1"),
        (SpartaDilocoOptions, {"selector": "sequential"}, "'random' or 'partitioned'"),
    ],
)
def test_wrong_options_are_refused(options, values, word):
    with pytest.raises(ValidationError, match=word):
        options(**values)
