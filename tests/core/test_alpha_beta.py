"""The alpha-beta model against sums by hand."""

from __future__ import annotations

import math

import pytest

from wash_bench.core.ledger import (
    CommLedger,
    charge_broadcast,
    charge_fetch,
    charge_gather,
    charge_mean,
    charge_permute,
    copies,
    depth,
    serial_copies,
)
from wash_bench.distributed.alpha_beta import Network, parse_bandwidth, parse_duration, predict
from wash_bench.errors import UsageError

NETWORK = Network(bandwidth=1e6, latency=1e-3, framing=1.0)


def _ledger(n: int, *charges) -> CommLedger:
    ledger = CommLedger(n)
    for charge in charges:
        ledger.add(charge)
    return ledger


@pytest.mark.parametrize(
    ("charge", "seconds"),
    [
        # 1,000 float32 values, 4 members, 1 MB/s, 1 ms
        (charge_mean(4, 1000), 12 * 1e-3 + 6 / 4 * 4000 / 1e6),
        (charge_permute(4 * 30), 2 * 1e-3 + 30 * 4 / 1e6),
        (charge_gather(4, 1000), 6 * 1e-3 + 3 * 4000 / 1e6),
        # the source sends two copies at once, and the first receiver a third
        (charge_broadcast(4, 1000), 3 * 1e-3 + 3 * 4000 / 1e6),
        (charge_fetch([1, 2, 3, 0], 1000), 2e-3 + 4000 / 1e6),
    ],
)
def test_time_of_one_collective(charge, seconds: float) -> None:
    assert predict(_ledger(4, charge), 1, NETWORK).seconds == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("ranks", "sent", "longest", "serial"),
    [
        (1, [0], 0, 0),
        (2, [1, 0], 1, 1),
        (3, [2, 0, 0], 1, 2),
        (4, [2, 1, 0, 0], 2, 3),
        (5, [3, 1, 0, 0, 0], 2, 4),
        # 0 to 1, 2, 4 at time 3; 1 to 3, 5 at 5; 3 to 7 at 6
        (8, [3, 2, 1, 1, 0, 0, 0, 0], 3, 6),
    ],
)
def test_broadcast_tree(ranks: int, sent: list[int], longest: int, serial: int) -> None:
    assert [copies(place, ranks) for place in range(ranks)] == sent
    assert sum(sent) == ranks - 1
    assert (depth(ranks), serial_copies(ranks)) == (longest, serial)


def test_one_member_has_nobody_to_wait_for() -> None:
    ledger = _ledger(1, charge_mean(1, 1000), charge_broadcast(1, 1000), charge_gather(1, 1000))
    assert predict(ledger, 1, NETWORK).seconds == 0


def test_what_one_shuffle_moves_travels_in_one_message() -> None:
    charges = (charge_permute(400, "weights"), charge_permute(400, "optimizer"))
    found = predict(_ledger(4, *charges), 1, NETWORK)
    assert found.seconds == pytest.approx(2 * 1e-3 + 200 * 4 / 1e6)


def test_slowdown_and_the_bandwidth_of_one_per_cent() -> None:
    ledger = _ledger(2, *[charge_mean(2, 1000)] * 10)  # 10 events in 100 steps
    found = predict(ledger, 100, NETWORK, step_seconds=0.5)
    assert found.seconds == pytest.approx(0.1 * (4e-3 + 4e-3))
    assert found.slowdown == pytest.approx(1 + found.seconds / 0.5)
    at_needed = Network(found.one_percent_bandwidth, NETWORK.latency, 1.0)
    assert predict(ledger, 100, at_needed, 0.5).slowdown == pytest.approx(1.01)


def test_where_latency_alone_costs_more_and_where_nothing_is_sent() -> None:
    ledger = _ledger(2, *[charge_mean(2, 1000)] * 100)
    assert predict(ledger, 100, NETWORK, step_seconds=0.1).one_percent_bandwidth == math.inf
    nothing = predict(CommLedger(2), 100, NETWORK, step_seconds=0.1)
    assert (nothing.seconds, nothing.slowdown, nothing.one_percent_bandwidth) == (0, 1, 0)


def test_units() -> None:
    assert parse_bandwidth("1Gbit") == 1e9 / 8
    assert parse_bandwidth("100 Mbit/s") == 1e8 / 8
    assert parse_bandwidth("2GB") == 2e9
    assert parse_duration("--latency", "0.5ms") == pytest.approx(5e-4)
    assert parse_duration("--step-time", "2s") == 2
    for text in ("fast", "10", "0Gbit", "-1Gbit"):
        with pytest.raises(UsageError, match=r"--bandwidth .*: write it as"):
            parse_bandwidth(text)
    with pytest.raises(UsageError, match="--latency 5: write it as"):
        parse_duration("--latency", "5")
