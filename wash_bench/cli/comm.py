"""``wash-bench comm``: what each method sends, from arithmetic alone, and how long it takes."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, Any

import typer

from wash_bench.cli.options import DEBUG, takes_settings

if TYPE_CHECKING:
    from wash_bench.core.ledger import CommLedger
    from wash_bench.distributed.alpha_beta import Network

_MODEL = "resnet18"
# What the rate is does not matter, only that it falls: no method sends more at a higher one.
_RATE = 0.1
AMOUNTS = ("sent_values_per_step", "sent_values_total", "sent_values_total_std",
           "sent_bytes_total", "wire_bytes_per_step", "wire_bytes_total", "by_kind")  # fmt: skip
TIMES = ("exchange_seconds_per_step", "latency_seconds_per_step", "slowdown",
         "one_percent_bits_per_second")  # fmt: skip


@takes_settings(
    *("methods", "method", "set", "population", "model_arg", "stem", "optimizer"),
    model={"default": _MODEL},
)
def comm(
    num_classes: Annotated[int, typer.Option(metavar="C", min=1, help="Classes.")] = 10,
    in_chans: Annotated[int, typer.Option(metavar="CHANNELS", min=1, help="Image channels.")] = 3,
    image_size: Annotated[
        int, typer.Option(metavar="PIXELS", min=1, help="Side of an image in pixels.")
    ] = 32,
    steps: Annotated[
        int, typer.Option(metavar="STEPS", min=1, help="Optimizer steps of a training.")
    ] = 1000,
    steps_per_epoch: Annotated[
        int,
        typer.Option(
            metavar="STEPS",
            min=1,
            help="Optimizer steps an epoch (782: 50,000 images in batches of 64).",
        ),
    ] = 782,
    bandwidth: Annotated[
        str | None,
        typer.Option(
            metavar="RATE",
            help="Bandwidth of a member's link, as 1Gbit or 100Mbit (a second): predicts the time "
            "of the exchanges.",
            show_default="no prediction",
        ),
    ] = None,
    latency: Annotated[
        str, typer.Option(metavar="TIME", help="Latency of a link, one way, as 0.5ms.")
    ] = "0ms",
    step_time: Annotated[
        str | None,
        typer.Option(
            metavar="TIME",
            help="Duration of a training step without exchanges, as 300ms: predicts the slow-down.",
            show_default="no slow-down",
        ),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print a JSON list of objects (default: a table).")
    ] = False,
    debug: Annotated[bool, DEBUG] = False,
    **options: Any,
) -> None:
    """Predict what each method sends over a training, per member; trains nothing.

    Values sent, as the papers count: scalars of weights and optimizer state that leave a member.

    Bytes on the wire: what the collectives send, BatchNorm statistics included.

    Examples:
        wash-bench comm --model resnet18 --num-classes 100 --population 5 --steps 1000
        wash-bench comm --model resnet50 --image-size 224 --methods wash --set wash.p=0.05 --json
    """
    from wash_bench.study.resolve import given, resolve

    link, step_seconds = _link(bandwidth, latency, step_time)
    resolved = resolve(None, None, {"model": _MODEL} | given(options), defaults=True)
    training = resolved.config.training
    from wash_bench.core.layout import layout_of
    from wash_bench.core.method import CommShape, predict_comm
    from wash_bench.core.step_info import Schedule
    from wash_bench.models.build import build_model
    from wash_bench.train.optim import optimizer_slots

    network = build_model(
        training.model,
        classes=num_classes,
        channels=in_chans,
        size=image_size,
        stem=training.stem,
        model_args=training.model_args,
        seed_value=0,
    )
    site = CommShape(layout_of(network), training.population, len(optimizer_slots(training)))
    schedule = Schedule("cosine", _RATE, _RATE / 1000, steps, steps_per_epoch)
    rows = []
    for spec in resolved.specs:
        made = spec.make()
        ledger = predict_comm(made, site, schedule)
        row: dict[str, Any] = {"variant": spec.label, "method": made.name}
        row |= {"population": site.n, "parameters": site.layout.size, "steps": steps}
        row |= _amounts(ledger, steps)
        if link is not None:
            row |= _times(ledger, steps, link, step_seconds)
        rows.append(row)
    if as_json:
        from wash_bench.cli.printing import print_json

        print_json(rows)
        return
    _print(rows, training.model)
    if link is not None:
        _print_times(rows)


def _link(
    bandwidth: str | None, latency: str, step_time: str | None
) -> tuple[Network | None, float | None]:
    """Return the network and a step's seconds, None where they are not given."""
    from wash_bench.distributed.alpha_beta import Network, parse_bandwidth, parse_duration
    from wash_bench.errors import UsageError

    step_seconds = None if step_time is None else parse_duration("--step-time", step_time)
    if step_seconds == 0:
        raise UsageError("--step-time 0: a step takes longer")
    seconds = parse_duration("--latency", latency)
    if bandwidth is None and step_time is not None:
        raise UsageError("--step-time needs --bandwidth, as --bandwidth 1Gbit")
    return (Network(parse_bandwidth(bandwidth), seconds) if bandwidth else None), step_seconds


def _amounts(ledger: CommLedger | None, steps: int) -> dict[str, Any]:
    """Return what is sent per member, averaged over members; null where it is not predicted."""
    if ledger is None:
        return dict.fromkeys(AMOUNTS)
    sent, wire = ledger.sent_values, ledger.wire_bytes
    by_kind = {
        f"{kind}/{content}": {
            "events": tally.events,
            "sent_values": tally.values / ledger.n,
            "wire_bytes": tally.wire_bytes / ledger.n,
        }
        for (kind, content), tally in sorted(ledger.tallies.items())
    }
    found = (sent / steps, sent, ledger.sent_values_std, ledger.sent_bytes, wire / steps, wire)
    return dict(zip(AMOUNTS, (*found, by_kind), strict=True))


def _times(
    ledger: CommLedger | None, steps: int, link: Network, step_seconds: float | None
) -> dict[str, float | None]:
    """Return the columns of the time model; an infinite bandwidth is null."""
    from wash_bench.distributed.alpha_beta import predict

    if ledger is None:
        return dict.fromkeys(TIMES)
    found = predict(ledger, steps, link, step_seconds)
    needed = found.one_percent_bandwidth
    bits = None if needed is None or math.isinf(needed) else 8 * needed
    values = (found.seconds, found.latency_seconds, found.slowdown, bits)
    return dict(zip(TIMES, values, strict=True))


def _print(rows: list[dict[str, Any]], model: str) -> None:
    from wash_bench.cli.printing import print_rows
    from wash_bench.runner.formatting import count, size

    def whole(value: float | None) -> str:
        return count(None if value is None else round(value))

    headings = ("method", "values a step", "values in all", "+-", "sent", "on the wire", "by kind")
    table = [
        (
            row["variant"],
            count(row["sent_values_per_step"]),
            whole(row["sent_values_total"]),
            whole(row["sent_values_total_std"]),
            size(row["sent_bytes_total"]),
            size(row["wire_bytes_total"]),
            ", ".join(
                f"{kind} x{tally['events']:,}: {size(tally['wire_bytes'])}"
                for kind, tally in (row["by_kind"] or {}).items()
            ),
        )
        for row in rows
    ]
    typer.echo(
        f"{model}: {rows[0]['parameters']:,} parameters, {rows[0]['population']} members, "
        f"{rows[0]['steps']:,} steps. Per member; +- is the standard deviation of drawn amounts."
    )
    print_rows(headings, table, right=headings[1:-1])


def _print_times(rows: list[dict[str, Any]]) -> None:
    from wash_bench.cli.printing import print_rows
    from wash_bench.runner.formatting import NOT_PREDICTED

    headings = ("method", "exchange a step", "of it latency", "slow-down", "bandwidth for 1 %")
    table = []
    for row in rows:
        exchange, latency, slowdown, needed = (row[key] for key in TIMES)
        if exchange is None:
            table.append([row["variant"], NOT_PREDICTED, "", "", ""])
            continue
        enough = "" if needed is None else f"{needed / 1e6:,.3f} Mbit/s"
        table.append(
            [
                row["variant"],
                f"{1e3 * exchange:.3f} ms",
                f"{1e3 * latency:.3f} ms",
                "" if slowdown is None else f"{slowdown:.4f} x",
                enough if needed is not None or slowdown is None else "latency alone is more",
            ]
        )
    typer.echo(
        "Predicted by the alpha-beta model, a lower bound: each member on a machine of its own, "
        "full-duplex links, gloo's latencies, nothing overlapped, no time of processors."
    )
    print_rows(headings, table, right=headings[1:])
