"""``wash-bench plan``: what a run would do and cost; nothing is trained."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from wash_bench.cli.options import DEBUG, takes_settings
from wash_bench.cli.run import Preset, PresetFile, resolved_run

if TYPE_CHECKING:
    from wash_bench.runner.plan import CellPlan
    from wash_bench.settings.resolve import Resolved


@takes_settings(of_preset=True)
def plan(
    preset: Preset = None,
    preset_file: PresetFile = None,
    debug: Annotated[bool, DEBUG] = False,
    **options: Any,
) -> None:
    """Show the cells of a run: steps, parameters, bytes sent, memory, time. Trains nothing.

    The time comes from a few timed steps on this machine. Values and bytes are per member.
    """
    from wash_bench.cli.printing import print_rows, span

    resolved = resolved_run(preset, preset_file, options)
    from wash_bench.runner.plan import plan_experiment

    planned = plan_experiment(resolved.config, resolved.entries, download=resolved.download)
    print_rows(HEADINGS, map(_row, planned.cells), right=HEADINGS[1:-1])
    for note in (*_coupling(resolved), *planned.notes):
        typer.echo(note)
    typer.echo(f"Estimated time of all trainings, one after another: {span(planned.total_seconds)}")


HEADINGS = ("method", "seed", "steps", "parameters", "values sent", "sent", "on the wire",
            "memory", "time", "trained with")  # fmt: skip


def _coupling(resolved: Resolved) -> list[str]:
    """What ``--coupling-budget paper`` made of the papers' settings."""
    from wash_bench.settings.coupling import in_words, unscaled

    config = resolved.config
    if config.coupling_budget == "given":
        return []
    lines = [f"coupling of {name}: {in_words(own)}" for name, own in config.coupling.items()]
    if left := unscaled(resolved.entries, config.coupling):
        lines.append(f"coupling as given, its method does not say how it scales: {', '.join(left)}")
    return lines


def _row(cell: CellPlan) -> list[str]:
    from wash_bench.cli.printing import count, size, span

    return [
        cell.method,
        str(cell.seed),
        count(cell.steps),
        count(cell.parameters),
        count(cell.sent_values),
        size(cell.sent_bytes),
        size(cell.wire_bytes),
        size(cell.memory_bytes),
        span(cell.seconds),
        cell.shared_with or "",
    ]
