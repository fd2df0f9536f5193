"""``wash-bench verify``: do the numbers of a run folder come out again, bit for bit?"""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from wash_bench.cli.options import DEBUG, takes_settings

if TYPE_CHECKING:
    from wash_bench.runner.recorded import CellRecord
    from wash_bench.runner.verify import Difference, Repeated, Verified


@takes_settings("method", "data_dir", "device", "threads", "download")
def verify(
    context_of_command: typer.Context,
    runs: Annotated[
        Path, typer.Argument(metavar="RUN", help="Run folder, or folder that holds some.")
    ] = Path("runs"),
    cell: Annotated[
        list[str] | None,
        typer.Option(
            metavar="CELL",
            help="Only this cell: its id or the beginning of it; repeatable.",
            show_default="all",
        ),
    ] = None,
    epochs: Annotated[
        int, typer.Option(metavar="K", min=1, help="Epochs of each training to repeat.")
    ] = 1,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print a JSON object (default: lines).")
    ] = False,
    debug: Annotated[bool, DEBUG] = False,
    **options: Any,
) -> None:
    """Repeat the first epochs of trainings, and evaluations, and hold them to their records.

    Says whether the bits agree, and if not, what differs between the machine, versions, threads,
    data and code of the record and those here. The run folder is only read. Exit code 1 where
    something differs, or nothing of a cell could be repeated.

    Examples:
        wash-bench verify runs
        wash-bench verify runs --cell wash-test_resnet-digits-n3-s0 --epochs 3
    """
    from wash_bench.api.display import Display, display_for
    from wash_bench.cli.export import placed
    from wash_bench.cli.run import keeping

    found = _cells(runs, cell or [])
    ready = [placed(each, options) for each in found]
    _, context, methods = ready[0]
    with keeping():
        from wash_bench.runner.verify import verify as repeat

        results = []
        with Display() if as_json else display_for(sys.stdout) as display:
            watched = context.but(observer=display)
            results += repeat([each for each, _, _ in ready], watched, methods, epochs)
    if as_json:
        told = [asdict(result) | {"agrees": result.agrees} for result in results]
        from wash_bench.cli.printing import print_json

        print_json({"cells": told})
    else:
        for result in results:
            _tell(result, epochs)
    right = sum(result.agrees for result in results)
    if not as_json:
        typer.echo(f"{right} of {len(results)} cells: the same bits")
    context_of_command.exit(int(right < len(results)))


def _cells(runs: Path, named: list[str]) -> list[CellRecord]:
    """The finished cells that are asked for; a UsageError if there are none."""
    from wash_bench.errors import UsageError, note
    from wash_bench.record.folders import some_run_folders
    from wash_bench.record.schema import read_record
    from wash_bench.runner.recorded import cell_at, find_cell

    if named:
        return [find_cell(name, runs) for name in named]
    found = []
    for folder in some_run_folders(runs):
        for path in sorted((folder / "cells").glob("*.json")):
            record = read_record("cell", path)
            if record and record["status"] == "finished":
                found.append(cell_at(path))
            else:
                note(f"{path}: no record of a finished cell; left out")
    if not found:
        raise UsageError(f"no finished cell in {runs}")
    return found


def _tell(result: Verified, epochs: int) -> None:
    first = "first epoch" if epochs == 1 else f"first {epochs} epochs"
    typer.echo(result.cell_id)
    typer.echo(f"  {first}: {_outcome(result.training)}")
    typer.echo(f"  evaluation: {_outcome(result.evaluation)}")
    if any(part.differences for part in (result.training, result.evaluation)):
        if not result.environment:
            typer.echo("  the environment is that of the record, as far as it says")
        for difference in result.environment:
            typer.echo(f"  {_difference(difference)}")


def _outcome(part: Repeated) -> str:
    if part.missing:
        return f"not repeated: {part.missing}"
    if not part.compared:
        return "not repeated: it has no number in common with the record"
    if not part.differences:
        return f"the same bits ({part.compared} numbers)"
    count = f"{len(part.differences)} of {part.compared} numbers differ"
    return f"{count}, first {_difference(part.differences[0])}"


def _difference(difference: Difference) -> str:
    return f"{difference.what}: {difference.recorded} in the record, {difference.here} here"
