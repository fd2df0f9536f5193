"""``wash-bench plan``: what a run would do and cost; nothing is trained."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from wash_bench.cli.options import DEBUG, JSON, takes_settings
from wash_bench.cli.run import (
    Preset,
    PresetFile,
    Scale,
    limit_threads,
    resolved_run,
    tell_settings,
)

if TYPE_CHECKING:
    from wash_bench.runner.plan import CellPlan
    from wash_bench.study.file import Study
    from wash_bench.study.resolve import Resolved


@takes_settings()
def plan(
    preset: Preset = None,
    preset_file: PresetFile = None,
    scale: Scale = "",
    as_json: Annotated[bool, JSON] = False,
    debug: Annotated[bool, DEBUG] = False,
    **options: Any,
) -> None:
    """Show the cells of a run: steps, parameters, bytes sent, memory, time. Trains nothing.

    The time comes from a few timed steps on this machine. Values and bytes are per member.

    Examples:
        wash-bench plan
        wash-bench plan cifar100-vgg16 --population 5 --seeds 0
        wash-bench plan imagenet-resnet50 --methods wash,papa --set wash.p=0.01
    """
    from wash_bench.api.runs import study_from
    from wash_bench.cli.printing import print_json, print_rows
    from wash_bench.runner.formatting import span

    study = study_from(preset, preset_file, options, scale)
    if study is not None:
        plan_study(study, as_json=as_json)
        return
    resolved = resolved_run(preset, preset_file, options)
    from wash_bench.api.runs import plan_of

    planned = plan_of(resolved)
    if as_json:
        cells = [asdict(cell) for cell in planned.cells]
        notes = [*_coupling(resolved), *planned.notes]
        print_json({"cells": cells, "seconds": planned.seconds, "notes": notes})
        return
    print_rows(HEADINGS, [_row(cell) for cell in planned.cells], right=HEADINGS[1:-1])
    tell_settings(resolved)
    for note in (*_coupling(resolved), *planned.notes):
        typer.echo(note)
    typer.echo(f"Estimated time of all trainings, one after another: {span(planned.seconds)}")


def plan_study(study: Study, *, as_json: bool = False) -> None:
    """Print what each row of a study costs; nothing is trained."""
    from wash_bench.cli.printing import print_json, print_rows
    from wash_bench.runner.formatting import count, size, span
    from wash_bench.runner.plan import plan_cells

    if study.local.threads:
        limit_threads(study.local.threads)
    planned = plan_cells(study.cells, download=study.local.download)
    if as_json:
        cells = [asdict(cell) for cell in planned.cells]
        print_json({"cells": cells, "seconds": planned.seconds, "notes": planned.notes})
        return
    rows, left = [], iter(planned.cells)
    for line in study.lines:
        own = [next(left) for _ in line.cells]
        first = own[0]
        about = [line.row.label, str(line.population), line.augment, str(len(own))]
        sent = [count(first.steps), size(first.sent_bytes), size(first.wire_bytes)]
        rows.append([*about, *sent, span(sum(cell.seconds for cell in own))])
    at = f" at scale {study.scale}" if study.scale else ""
    typer.echo(f"{study.file.title}: {study.name}{at}; bytes are per member and seed")
    print_rows(OF_STUDY, rows, right=("N", "seeds", *OF_STUDY[4:]))
    for note in planned.notes:
        typer.echo(note)
    typer.echo(f"Estimated time of all trainings, one after another: {span(planned.seconds)}")


OF_STUDY = ("row", "N", "augmentation", "seeds", "steps", "sent", "on the wire", "time")
HEADINGS = ("method", "seed", "steps", "parameters", "values sent", "sent", "on the wire",
            "memory", "time", "trained with")  # fmt: skip


def _coupling(resolved: Resolved) -> list[str]:
    """What ``--rescale-coupling`` made of the papers' settings."""
    from wash_bench.study.coupling import in_words, unscaled

    scaled = [(spec.entry.name, spec.coupling) for spec in resolved.specs if spec.coupling]
    lines = [f"coupling of {name}: {in_words(own)}" for name, own in scaled]
    if resolved.config.coupling_budget == "given":
        return lines
    if left := unscaled(resolved.entries, dict(scaled)):
        lines.append(f"coupling as given, its method does not say how it scales: {', '.join(left)}")
    return lines


def _row(cell: CellPlan) -> list[str]:
    from wash_bench.runner.formatting import count, size, span

    return [
        cell.variant,
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
