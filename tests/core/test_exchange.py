"""The local exchange against loops, and what it enters in the ledger."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support import reference_rules
from wash_bench.core.exchange import LocalExchange
from wash_bench.core.layout import values_at
from wash_bench.seeds import numpy_stream


def rows_of(n: int, d: int, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).standard_normal((n, d), np.float32))


@settings(max_examples=40, deadline=None)
@given(n=st.integers(1, 6), d=st.integers(1, 30), data=st.data())
def test_permute_equals_the_loop_and_counts_moved_values(n, d, data):
    rows = rows_of(n, d)
    coordinates = sorted(data.draw(st.sets(st.integers(0, d - 1))))
    sources = [data.draw(st.permutations(range(n))) for _ in coordinates]
    expected = reference_rules.wash_shuffle(rows.tolist(), coordinates, sources)
    moved = sum(a != b for source in sources for a, b in enumerate(source))

    exchange = LocalExchange(n, seed=0)
    exchange.permute_(
        [(rows, "weights")],
        torch.tensor(coordinates, dtype=torch.int64),
        torch.tensor(sources, dtype=torch.int64).reshape(-1, n),
    )

    assert rows.tolist() == expected
    tally = exchange.ledger.tallies["permute", "weights"]
    assert (tally.events, tally.values, tally.wire_bytes) == (1, moved, 4 * moved)


def test_mean_charges_one_vector_a_member_and_a_ring():
    rows = rows_of(5, 12)
    exchange = LocalExchange(5, seed=0)
    mean = exchange.mean(rows)
    np.testing.assert_allclose(
        mean.double(), reference_rules.mean(rows.tolist()), rtol=1e-5, atol=1e-7
    )
    assert exchange.ledger.sent_values == 12
    assert exchange.ledger.sent_bytes == 48
    assert exchange.ledger.wire_bytes == pytest.approx(2 * 4 / 5 * 12 * 4)


def test_buffers_cost_bytes_but_no_values():
    exchange = LocalExchange(3, seed=0)
    exchange.mean(rows_of(3, 8), "buffers")
    assert exchange.ledger.sent_values == exchange.ledger.sent_bytes == 0
    assert exchange.ledger.wire_bytes == pytest.approx(2 * 2 / 3 * 8 * 4)


@pytest.mark.parametrize("source", [0, 2])
def test_broadcast_copies_one_row_to_all(source):
    rows = rows_of(4, 6)
    before = rows[source].tolist()
    exchange = LocalExchange(4, seed=0)
    exchange.broadcast_(rows, source)
    assert rows.tolist() == [before] * 4
    assert exchange.ledger.sent_values * 4 == 3 * 6  # three copies leave one member


def test_broadcast_of_integers_charges_eight_bytes():
    counters = torch.arange(6).reshape(3, 2)
    exchange = LocalExchange(3, seed=0)
    exchange.broadcast_(counters, 1, "buffers")
    assert counters.tolist() == [[2, 3]] * 3
    assert exchange.ledger.wire_bytes * 3 == 2 * 2 * 8


def test_sent_bytes_follow_the_elements_of_what_was_sent():
    exchange = LocalExchange(3, seed=0)
    exchange.gather(rows_of(3, 7).half())
    assert (exchange.ledger.sent_values, exchange.ledger.sent_bytes) == (7, 2 * 7)
    exchange.gather(rows_of(3, 7))
    assert (exchange.ledger.sent_values, exchange.ledger.sent_bytes) == (14, 2 * 7 + 4 * 7)


def test_gather_sends_everybody_everything():
    rows = rows_of(3, 7)
    exchange = LocalExchange(3, seed=0)
    assert torch.equal(exchange.gather(rows), rows)
    assert exchange.ledger.sent_values == 7
    assert exchange.ledger.wire_bytes == 2 * 7 * 4


def test_stream_depends_on_seed_and_counters_only():
    def draw(exchange, *counters):
        return exchange.stream("shuffle", *counters).random(4).tolist()

    three, five = LocalExchange(3, seed=7), LocalExchange(5, seed=7)
    assert draw(three, 11) == draw(five, 11) == numpy_stream(7, "shuffle", 11).random(4).tolist()
    assert draw(three, 11) != draw(three, 12)
    assert draw(three, 11) != draw(LocalExchange(3, seed=8), 11)


def test_ledger_survives_a_round_trip():
    exchange = LocalExchange(3, seed=0)
    exchange.mean(rows_of(3, 8))
    exchange.mean(rows_of(3, 2), "buffers")
    again = LocalExchange(3, seed=0).ledger
    again.load(exchange.ledger.as_dict())
    assert again == exchange.ledger


@pytest.mark.parametrize("gap", [0, 3])
def test_few_coordinates_are_read_without_a_copy_of_the_rows(gap):
    rows = torch.randn(4, 50_000 + gap)[:, :50_000]
    where = torch.randint(50_000, (20,))
    with torch.profiler.profile(profile_memory=True) as profile:
        found = values_at(rows, where)
    assert torch.equal(found, rows[:, where])
    taken = sum(max(event.self_cpu_memory_usage, 0) for event in profile.key_averages())
    assert taken < rows.numel()  # bytes: a copy has four times as many
