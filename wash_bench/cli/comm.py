"""``wash-bench comm``: what each method sends, from arithmetic alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from wash_bench.cli.options import DEBUG, takes_settings
from wash_bench.cli.times import link_of, prediction, print_times

if TYPE_CHECKING:
    from wash_bench.core.ledger import Ledger
    from wash_bench.core.method import Method, Site

_MODEL = "resnet18"
# What the rate is does not matter, only that it falls: no method sends more at a higher one.
_RATE = 0.1


@takes_settings(
    *("methods", "method", "set", "population", "model_arg", "stem", "optimizer"),
    model={"default": _MODEL},
)
def comm(
    num_classes: Annotated[
        str, typer.Option(metavar="C", help="Classes that the network tells apart.")
    ] = "10",
    in_chans: Annotated[str, typer.Option(metavar="CHANNELS", help="Channels of an image.")] = "3",
    image_size: Annotated[
        str, typer.Option(metavar="PIXELS", help="Side of an image in pixels.")
    ] = "32",
    steps: Annotated[
        str, typer.Option(metavar="STEPS", help="Length of a training in optimizer steps.")
    ] = "1000",
    steps_per_epoch: Annotated[
        str,
        typer.Option(
            metavar="STEPS",
            help="Optimizer steps an epoch (782: 50,000 images in batches of 64).",
        ),
    ] = "782",
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
    """Tell what each method sends over a training, per member, without training anything.

    Values sent, as the papers count: scalars of weights and optimizer state that leave a member.

    Bytes on the wire: what the collectives send, BatchNorm statistics included.
    """
    from wash_bench.settings.resolve import given, resolve

    classes = _whole("--num-classes", num_classes)
    channels = _whole("--in-chans", in_chans)
    size = _whole("--image-size", image_size)
    n_steps = _whole("--steps", steps)
    epoch_steps = _whole("--steps-per-epoch", steps_per_epoch)
    link, step_seconds = link_of(bandwidth, latency, step_time)
    resolved = resolve(None, None, {"model": _MODEL} | given(options), defaults=True)
    training = resolved.config.training
    from wash_bench.core.bill import bill
    from wash_bench.core.clock import Schedule
    from wash_bench.core.layout import layout_of
    from wash_bench.core.method import Site
    from wash_bench.models.build import build_model
    from wash_bench.train.optim import optimizer_slots

    network = build_model(
        training.model,
        classes=classes,
        channels=channels,
        size=size,
        stem=training.stem,
        model_args=training.model_args,
        seed_value=0,
    )
    site = Site(layout_of(network), training.population, len(optimizer_slots(training)))
    schedule = Schedule("cosine", _RATE, _RATE / 1000, n_steps, epoch_steps)
    rows = []
    for spec in resolved.specs:
        made = spec.make()
        ledger = bill(made, site, schedule)
        row = {"variant": spec.label} | _account(made, site, ledger, n_steps)
        if link is not None:
            row |= prediction(ledger, n_steps, link, step_seconds)
        rows.append(row)
    if as_json:
        import json

        typer.echo(json.dumps(rows, indent=2))
    else:
        _print(rows, training.model)


AMOUNTS = ("sent_values_per_step", "sent_values_total", "sent_values_total_std",
           "sent_bytes_total", "wire_bytes_per_step", "wire_bytes_total", "by_kind")  # fmt: skip


def _whole(flag: str, text: str) -> int:
    from wash_bench.errors import UsageError

    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise UsageError(f"{flag} {text}: must be a whole number, at least 1")
    return int(text)


def _account(method: Method, site: Site, ledger: Ledger | None, steps: int) -> dict[str, Any]:
    """One object of the JSON list; all amounts per member, the mean over members, or null."""
    about = {
        "method": method.name,
        "population": site.n,
        "parameters": site.layout.size,
        "steps": steps,
    }
    if ledger is None:
        return about | dict.fromkeys(AMOUNTS)
    return about | {
        "sent_values_per_step": ledger.sent_values / steps,
        "sent_values_total": ledger.sent_values,
        "sent_values_total_std": ledger.sent_values_std,
        "sent_bytes_total": ledger.sent_bytes,
        "wire_bytes_per_step": ledger.wire_bytes / steps,
        "wire_bytes_total": ledger.wire_bytes,
        "by_kind": {
            f"{kind}/{content}": {
                "events": tally.events,
                "sent_values": tally.values / ledger.n,
                "wire_bytes": tally.wire_bytes / ledger.n,
            }
            for (kind, content), tally in sorted(ledger.tallies.items())
        },
    }


def _rounded(value: float | None) -> int | None:
    return None if value is None else round(value)


def _print(rows: list[dict[str, Any]], model: str) -> None:
    from wash_bench.cli.printing import print_rows
    from wash_bench.runner.units import count, size

    headings = ("method", "values a step", "values in all", "+-", "sent", "on the wire", "by kind")
    table = []
    for row in rows:
        table.append(
            [
                row["variant"],
                count(row["sent_values_per_step"]),
                count(_rounded(row["sent_values_total"])),
                count(_rounded(row["sent_values_total_std"])),
                size(row["sent_bytes_total"]),
                size(row["wire_bytes_total"]),
                ", ".join(
                    f"{kind} x{tally['events']:,}: {size(tally['wire_bytes'])}"
                    for kind, tally in (row["by_kind"] or {}).items()
                ),
            ]
        )
    first = rows[0]
    typer.echo(
        f"{model}: {first['parameters']:,} parameters, {first['population']} members, "
        f"{first['steps']:,} steps. Per member; +- is the standard deviation where coordinates "
        "are drawn."
    )
    print_rows(headings, table, right=headings[1:-1])
    if "exchange_seconds_per_step" in first:
        print_times(rows)
