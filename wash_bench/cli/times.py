"""The part of ``wash-bench comm`` that turns bytes into time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from wash_bench.core.ledger import Ledger
    from wash_bench.distributed.netmodel import Network


def link_of(
    bandwidth: str | None, latency: str, step_time: str | None
) -> tuple[Network | None, float | None]:
    """The network and a step's seconds, None if not given; a UsageError if no rate or time."""
    from wash_bench.distributed.netmodel import Network, parse_bandwidth, parse_duration
    from wash_bench.errors import UsageError

    step_seconds = None if step_time is None else parse_duration("--step-time", step_time)
    if step_seconds == 0:
        raise UsageError("--step-time 0: a step takes longer")
    seconds = parse_duration("--latency", latency)
    if bandwidth is None:
        if step_time is not None:
            raise UsageError("--step-time needs --bandwidth, as --bandwidth 1Gbit")
        return None, None
    return Network(parse_bandwidth(bandwidth), seconds), step_seconds


COLUMNS = ("exchange_seconds_per_step", "latency_seconds_per_step", "slowdown",
           "one_percent_bits_per_second")  # fmt: skip


def prediction(
    ledger: Ledger | None, steps: int, link: Network, step_seconds: float | None
) -> dict[str, float | None]:
    """The columns of the time model; an infinite bandwidth is null in JSON."""
    import math

    from wash_bench.distributed.netmodel import predict

    if ledger is None:
        return dict.fromkeys(COLUMNS)
    found = predict(ledger, steps, link, step_seconds)
    needed = found.one_percent_bandwidth
    return {
        "exchange_seconds_per_step": found.seconds,
        "latency_seconds_per_step": found.latency_seconds,
        "slowdown": found.slowdown,
        "one_percent_bits_per_second": (
            None if needed is None or math.isinf(needed) else 8 * needed
        ),
    }


def print_times(rows: list[dict[str, Any]]) -> None:
    """The predicted times as a table."""
    from wash_bench.cli.printing import print_rows
    from wash_bench.runner.units import NOT_PREDICTED

    headings = ("method", "exchange a step", "of it latency", "slow-down", "bandwidth for 1 %")
    table = []
    for row in rows:
        if row["exchange_seconds_per_step"] is None:
            table.append([row["variant"], NOT_PREDICTED, "", "", ""])
            continue
        needed = row["one_percent_bits_per_second"]
        slowdown = row["slowdown"]
        table.append(
            [
                row["variant"],
                f"{1e3 * row['exchange_seconds_per_step']:.3f} ms",
                f"{1e3 * row['latency_seconds_per_step']:.3f} ms",
                "" if slowdown is None else f"{slowdown:.4f} x",
                ("" if slowdown is None else "latency alone is more")
                if needed is None
                else f"{needed / 1e6:,.3f} Mbit/s",
            ]
        )
    typer.echo(
        "Predicted by the alpha-beta model, a lower bound: each member on a machine of its own, "
        "full-duplex links, gloo's latencies, nothing overlapped, no time of processors."
    )
    print_rows(headings, table, right=headings[1:])
