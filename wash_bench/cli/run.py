"""``wash-bench run``: resolve, train, evaluate, report."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from wash_bench.cli.options import with_run_options

if TYPE_CHECKING:
    from wash_bench.settings.resolve import Resolved


@with_run_options
def run(preset: str | None, **options: Any) -> None:
    """Train populations under several methods on one loop and report how they compare.

    The same command goes on with a run that was stopped; finished cells are not trained again.
    """
    debug = bool(options["debug"])
    resolved = resolved_run(preset, options)
    if resolved.procs > 1 and "RANK" not in os.environ:
        raise typer.Exit(_in_processes(resolved))
    try:
        from wash_bench.cli.display import Display, display_for
        from wash_bench.distributed.group import joined
        from wash_bench.runner.context import RunContext
        from wash_bench.runner.experiment import run_experiment

        with joined(resolved.config.training.device) as world:
            with display_for(sys.stdout) if world.rank == 0 else Display() as display:
                context = RunContext(
                    resolved.out,
                    jobs=resolved.jobs,
                    threads=resolved.threads,
                    download=resolved.download,
                    retry_failed=resolved.retry_failed,
                    debug=debug,
                    observer=display,
                    world=world,
                    shard=resolved.shard,
                    worker=resolved.worker,
                    stale=resolved.stale,
                )
                outcome = run_experiment(resolved.config, resolved.entries, context)
            if world.rank:
                return
        if resolved.report and (outcome.finished or outcome.cached or outcome.failed):
            if not resolved.worker:
                _report(resolved.out)
            elif not outcome.elsewhere:
                _report_once(resolved)
    except KeyboardInterrupt:
        from wash_bench.errors import Interrupted

        raise Interrupted(
            "interrupted; all that is finished is kept, and the same command goes on from it"
        ) from None
    if outcome.elsewhere:
        tell_elsewhere(outcome.elsewhere, "report")
    end_if_failed(outcome.failed)


def end_if_failed(cells: list[tuple[str, str]]) -> None:
    """Name the cells that failed and why, and end with exit code 1; nothing without any."""
    for cell, reason in cells:
        typer.echo(f"wash-bench: failed: {cell}: {' '.join(reason.split())}", err=True)
    if cells:
        typer.echo("wash-bench: failed cells are kept; --retry-failed trains them again", err=True)
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


def _in_processes(resolved: Resolved) -> int:
    """Start this command line again in ``--procs`` processes; their exit code."""
    from wash_bench.cli.main import current_arguments
    from wash_bench.distributed.launch import launch
    from wash_bench.distributed.spread import Spread

    Spread(resolved.config.training.population, resolved.procs)  # refuses too many
    if not resolved.threads:
        cores = os.cpu_count() or 1
        limit_threads(max(1, cores // resolved.procs))
    return launch(resolved.procs, current_arguments())


def resolved_run(preset: str | None, options: dict[str, Any]) -> Resolved:
    """Check the options of ``run`` and ``plan``; torch has not been imported when it returns."""
    from wash_bench.data.catalog import check_classes, spec_of
    from wash_bench.models.init_checkpoint import check_checkpoint
    from wash_bench.settings.resolve import resolve

    options.pop("debug")  # read by cli.main
    resolved = resolve(preset, options.pop("preset_file", None), options)
    check_folder(resolved.out, "--out")
    training = resolved.config.training
    if training.checkpoint:
        check_checkpoint(training.checkpoint)
    if training.chosen_classes:
        check_classes(training.chosen_classes, spec_of(training.dataset).classes, training.dataset)
    if resolved.threads:
        limit_threads(resolved.threads)
    return resolved


def check_folder(folder: Path, option: str) -> None:
    """Find out early, without making it, that a folder could be made and written.

    Raises:
        UsageError: it could not.
    """
    from wash_bench.errors import UsageError

    there = folder.absolute()
    while not there.exists() and there != there.parent:
        there = there.parent
    if not there.is_dir():
        raise UsageError(f"{option} {folder}: {there} is not a folder; choose another")
    if not os.access(there, os.W_OK | os.X_OK):
        raise UsageError(f"{option} {folder}: cannot write to {there}; choose another folder")


def limit_threads(threads: int) -> None:
    """Set the thread count that torch and its workers read when they are loaded."""
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = str(threads)


def _report(out: Path) -> None:
    from wash_bench.cli.tables import console_for_stdout
    from wash_bench.report.write import write_report

    written = write_report([out], out / "report", console=console_for_stdout())
    typer.echo(f"Report: {out / 'report'} ({', '.join(path.name for path in written)})")
