"""``wash-bench status``: where runs stand."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from wash_bench.cli.options import DEBUG

if TYPE_CHECKING:
    from wash_bench.record.status import CellStatus, FolderStatus


def status(
    runs: Annotated[
        Path, typer.Argument(metavar="RUNS", help="Run folder, or folder that holds some.")
    ] = Path("runs"),
    as_json: Annotated[
        bool, typer.Option("--json", help="Print a JSON object (default: tables).")
    ] = False,
    debug: Annotated[bool, DEBUG] = False,
) -> None:
    """Tell which cells are finished, running, waiting and failed, and how long it will take.

    Read from the records, while a run goes on or after it; nothing is trained or changed. Epochs
    are those of the last checkpoint, times left estimates from them and from finished trainings.

    Examples:
        wash-bench status runs
        wash-bench status runs/sweep --json
    """
    from wash_bench.record.folders import some_run_folders
    from wash_bench.record.status import status_of

    found = [status_of(folder) for folder in some_run_folders(runs)]
    if as_json:
        from wash_bench.cli.printing import print_json

        print_json({"folders": [_data(each) for each in found]})
        return
    for each in found:
        _print(each)


def _data(found: FolderStatus) -> dict[str, Any]:
    from dataclasses import asdict

    return {
        "folder": str(found.folder),
        "counts": found.counts,
        "seconds_left": found.seconds_left,
        "workers": [{"worker": name, "training_id": held} for name, held in found.workers],
        "cells": [asdict(cell) for cell in found.cells],
    }


def _print(found: FolderStatus) -> None:
    from wash_bench.cli.printing import print_rows
    from wash_bench.runner.formatting import span

    counts = found.counts
    told = ", ".join(f"{n:,} {state}" for state, n in counts.items() if n or state == "finished")
    line = f"{found.folder}: {told} of {len(found.cells):,} cells"
    if counts["running"] + counts["waiting"]:
        line += f"; {span(found.seconds_left)} left, estimated"
        if not counts["running"]:
            line += ", once the same command goes on (nobody works on it now)"
    typer.echo(line)
    shown = [cell for cell in found.cells if cell.status != "finished"]
    if shown:
        order = ("running", "waiting", "failed")
        shown.sort(key=lambda cell: order.index(cell.status))
        print_rows(HEADINGS, [_row(cell) for cell in shown], right=HEADINGS[1:2] + HEADINGS[3:5])
    if reporting := [owner for owner, name in found.workers if name == "report"]:
        typer.echo(f"Writing the report: {'; '.join(reporting)}")


HEADINGS = ("method", "seed", "status", "epoch", "left", "worker or reason")


def _row(cell: CellStatus) -> tuple[str, ...]:
    from wash_bench.runner.formatting import span

    epoch = f"{cell.epoch}/{cell.epochs}" if cell.epochs else ""
    left = "" if cell.status == "failed" else span(cell.seconds_left)
    return cell.name, str(cell.seed), cell.status, epoch, left, cell.reason or cell.worker
