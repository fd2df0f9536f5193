"""``wash-bench run``: resolve, train, evaluate, report."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from wash_bench.cli import complete
from wash_bench.cli.options import DEBUG, takes_settings

if TYPE_CHECKING:
    from wash_bench.settings.resolve import Resolved


Preset = Annotated[
    str | None,
    typer.Argument(
        metavar="PRESET",
        help="Settings to start from (see wash-bench presets).",
        show_default="digits; for another --dataset none",
        autocompletion=complete.preset,
    ),
]
PresetFile = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="Your own preset, a TOML file whose keys are the options' names (without PRESET it "
        "stands alone, else it is laid over it).",
        show_default="none",
    ),
]


@takes_settings(of_preset=True)
def run(
    context: typer.Context,
    preset: Preset = None,
    preset_file: PresetFile = None,
    debug: Annotated[bool, DEBUG] = False,
    **options: Any,
) -> None:
    """Train populations under several methods on one loop and report how they compare.

    The same command goes on with a run that was stopped; finished cells are not trained again.
    """
    resolved = resolved_run(preset, preset_file, options)
    if resolved.procs > 1 and "RANK" not in os.environ:
        _in_processes(resolved, context.obj)
    if os.environ.get("RANK", "0") == "0":
        tell_settings(resolved)
    with keeping():
        from wash_bench.api.display import Display, display_for
        from wash_bench.api.runs import execute
        from wash_bench.distributed.group import joined

        with joined(resolved.config.training.device, resolved.silence) as world:
            with display_for(sys.stdout) if world.rank == 0 else Display() as display:
                outcome = execute(resolved, debug=debug, observer=display, world=world)
            if world.rank:
                return
        if resolved.report and (outcome.finished or outcome.cached or outcome.failed):
            if not resolved.worker:
                _report(resolved.out)
            elif not outcome.elsewhere:
                _report_once(resolved)
    if outcome.elsewhere:
        tell_elsewhere(outcome.elsewhere, "report")
    end_if_failed(outcome.failed)


@contextlib.contextmanager
def keeping() -> Iterator[None]:
    """Say after Ctrl-C that what is finished is kept."""
    try:
        yield
    except KeyboardInterrupt:
        from wash_bench.errors import Interrupted

        raise Interrupted(
            "interrupted; all that is finished is kept, and the same command goes on from it"
        ) from None


def end_if_failed(
    cells: list[tuple[str, str]],
    again: str = "failed cells are kept; --retry-failed trains them again",
) -> None:
    """Name the cells that failed and why, and end with exit code 1; nothing without any."""
    for cell, reason in cells:
        typer.echo(f"wash-bench: failed: {cell}: {' '.join(reason.split())}", err=True)
    if cells:
        typer.echo(f"wash-bench: {again}", err=True)
        raise typer.Exit(1)


def tell_elsewhere(cells: list[tuple[str, str]], what: str) -> None:
    """Say who works on what is left, and that the last of them writes ``what``."""
    who = "; ".join(sorted({who for _, who in cells}))
    some = "1 cell is" if len(cells) == 1 else f"{len(cells)} cells are"
    typer.echo(
        f"Nothing left to take: {some} in the hands of other workers ({who}). The last of them "
        f"writes the {what}; if one dies, start this command again."
    )


def _report_once(resolved: Resolved) -> None:
    """The report, by one of the workers that find everything done."""
    from wash_bench.record.claims import REPORT, Claims

    with Claims(resolved.out, resolved.stale) as claims:
        claim = claims.take(REPORT)
        if claim is None:
            typer.echo(f"Report: another worker is writing {resolved.out / 'report'}")
            return
        try:
            _report(resolved.out)
        finally:
            claims.release(claim)


def _in_processes(resolved: Resolved, arguments: list[str]) -> NoReturn:
    """Carry out this command line in ``--procs`` processes, and end with their exit code."""
    from wash_bench.cores import cores
    from wash_bench.distributed.launch import launch
    from wash_bench.distributed.spread import Spread

    Spread(resolved.config.training.population, resolved.procs)  # refuses too many
    if not resolved.threads:
        limit_threads(max(1, cores() // resolved.procs))
    raise typer.Exit(launch(resolved.procs, arguments))


def resolved_run(preset: str | None, preset_file: Path | None, options: dict[str, Any]) -> Resolved:
    """Check the options of ``run`` and ``plan``; torch has not been imported when it returns."""
    from wash_bench.api.runs import resolved

    found = resolved(preset, preset_file, options)
    if found.threads:
        limit_threads(found.threads)
    return found


def tell_settings(resolved: Resolved) -> None:
    """Where the settings come from, and what is trained."""
    from wash_bench.settings.origin import chosen

    typer.echo(resolved.origin)
    typer.echo(chosen(resolved.config.training))


def limit_threads(threads: int) -> None:
    """Set the thread count that torch and its workers read when they are loaded."""
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = str(threads)


def _report(out: Path) -> None:
    from wash_bench.cli.printing import console_for_stdout
    from wash_bench.report.write import write_report

    written = write_report([out], out / "report", console=console_for_stdout())
    typer.echo(f"Report: {out / 'report'} ({', '.join(path.name for path in written)})")
