"""What Lookaround, SWAP, HWA, EASGD, gossip and sparse soups have in common."""

from __future__ import annotations

import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import load, save

from tests.support.method_checks import close
from tests.support.method_trainings import VARIANTS, spread_trainings, training
from tests.support.populations import PLAN, changed, copies, small_population, tensors
from tests.support.ranks import in_ranks
from wash_bench.core.exchange import LocalExchange
from wash_bench.core.method import CommShape, predict_comm
from wash_bench.methods.easgd import EasgdOptions
from wash_bench.methods.gossip import GossipOptions
from wash_bench.methods.hwa import HwaOptions
from wash_bench.methods.lookaround import LookaroundOptions
from wash_bench.methods.sparse_soup import SparseSoup, SparseSoupOptions
from wash_bench.methods.swap import SwapOptions


@pytest.mark.parametrize("n", [2, 5])
@pytest.mark.parametrize("slots", [("momentum",), ("momentum", "second"), ()])
@pytest.mark.parametrize("make", VARIANTS)
def test_they_cost_exactly_what_arithmetic_says(make, slots, n):
    method, population = make(), small_population(n, slots)
    exchange = LocalExchange(n, 3)
    method.start(population, exchange)
    for clock in PLAN.clocks():
        method.after_step(population, exchange, clock)
    assert (
        predict_comm(method, CommShape(population.layout, n, len(slots)), PLAN) == exchange.ledger
    )
    assert exchange.ledger.sent_values > 0


@pytest.mark.parametrize("make", VARIANTS)
def test_equal_members_stay_what_they_are(make):
    population = small_population(3)
    for rows in tensors(population).values():
        rows.copy_(rows[:1].clone().expand_as(rows))
    before = copies(population)
    method, exchange = make(), LocalExchange(3, 0)
    if isinstance(method, SparseSoup):
        pytest.skip("it prunes what all members share")
    method.start(population, exchange)
    for clock in PLAN.clocks():
        method.after_step(population, exchange, clock)
    for name, rows in tensors(population).items():
        torch.testing.assert_close(rows, before[name], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("make", VARIANTS)
def test_a_single_member_trains_plainly(make):
    population, exchange = small_population(1), LocalExchange(1, 0)
    before, method = copies(population), make()
    method.start(population, exchange)
    for clock in PLAN.clocks():
        method.after_step(population, exchange, clock)
    assert not changed(population, before)
    assert exchange.ledger.wire_bytes == 0


@pytest.mark.slow
@pytest.mark.parametrize("make", VARIANTS)
@pytest.mark.parametrize("stop", [10, 20, 30])
def test_a_resumed_training_ends_the_same(make, stop):
    whole, exchange = small_population(3), LocalExchange(3, 1)
    method = make()
    for clock, _ in training(method, whole, exchange):
        if clock.step == stop - 1:
            memory, rows = save(method.state_dict()), copies(whole)
    resumed, other = small_population(3, seed=9), make()
    for name, tensor in tensors(resumed).items():
        tensor.copy_(rows[name])
    other.load_state_dict(load(memory))
    for _ in training(other, resumed, LocalExchange(3, 1), first=stop):
        pass
    assert not changed(resumed, copies(whole))
    ends = method.state_dict(), other.state_dict()
    assert ends[0].keys() == ends[1].keys()
    assert all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0])


@pytest.mark.slow
def test_two_processes_do_what_one_does():
    alone = spread_trainings()
    first, second = in_ranks(2, spread_trainings)
    for one, *two in zip(alone, first, second, strict=True):
        for name, rows in one[0].items():
            torch.testing.assert_close(torch.cat([t[0][name] for t in two]), rows, **close)
        for memory in (t[1] for t in two):
            assert memory.keys() == one[1].keys()
            assert all(torch.equal(memory[name], two[0][1][name]) for name in memory)
            for name, tensor in memory.items():
                torch.testing.assert_close(tensor, one[1][name], **close)
        assert one[2] == two[0][2] == two[1][2]


@pytest.mark.parametrize(
    ("options", "values", "word"),
    [
        (LookaroundOptions, {"branches": "plain,flip"}, "'plain'"),
        (LookaroundOptions, {"every": 0}, "greater than or equal to 1"),
        (SwapOptions, {"phase1": 1.0}, "less than 1"),
        (GossipOptions, {"topology": "star"}, "'alternating' or 'exponential'"),
        (EasgdOptions, {"beta": 1.5}, "less than or equal to 1"),
        (SparseSoupOptions, {"sparsity": 1.0}, "less than 1"),
        (HwaOptions, {"window": 0}, "greater than or equal to 1"),
    ],
)
def test_wrong_options_are_refused(options, values, word):
    with pytest.raises(ValidationError, match=word):
        options(**values)
