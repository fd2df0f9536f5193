"""``wash-bench run``: cells of a preset or of a study file, run and reported.

``tune``, ``paper-table`` and ``merge`` share what is below: each makes a list of cells.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from wash_bench import stop
from wash_bench.cli import complete
from wash_bench.cli.options import DEBUG, takes_settings
from wash_bench.errors import LAUNCHED, UsageError

if TYPE_CHECKING:
    from wash_bench.runner.queue import Outcome
    from wash_bench.study.cells import Cell
    from wash_bench.study.file import Study
    from wash_bench.study.local import LocalConfig
    from wash_bench.study.resolve import Resolved

Preset = Annotated[
    str | None,
    typer.Argument(
        metavar="PRESET|FILE.toml",
        help="Settings to start from (see wash-bench presets), or a study file (default: digits, "
        "none with another --dataset).",
        show_default=False,
        autocompletion=complete.preset,
    ),
]
PresetFile = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="A TOML file of your own with options.",
        show_default=False,
    ),
]

Scale = Annotated[
    str,
    typer.Option(
        metavar="NAME",
        help="Which of a study file's scales, where it has several.",
        show_default="its only one",
    ),
]


@takes_settings()
def run(
    context: typer.Context,
    preset: Preset = None,
    preset_file: PresetFile = None,
    scale: Scale = "",
    debug: Annotated[bool, DEBUG] = False,
    **options: Any,
) -> None:
    """Train populations with several methods on one loop; the same command resumes a stopped run.

    Options win over the preset file, and that over PRESET, which win over the defaults below.

    Examples:
        wash-bench run
        wash-bench run digits --methods wash,papa --set wash.p=0.1 --seeds 0,1
        wash-bench run digits --methods wash,papa --dry-run  # as wash-bench plan
        wash-bench run digits --methods wash --set wash.p=0.03,0.1  # a sweep
        wash-bench run --methods wash,my.py:MyMethod --jobs 2 --out runs/mine
        wash-bench run --dataset folder:pets --image-size 64 --model resnet18
    """
    from wash_bench.api.runs import study_from

    study = study_from(preset, preset_file, options, scale)
    if study is not None:
        run_study(study, study.local.out / "tables", debug=debug, arguments=context.obj)
        return
    resolved = resolved_run(preset, preset_file, options)
    if os.environ.get("RANK", "0") == "0":
        tell_settings(resolved)
    outcome = run_cells(resolved.cells(), resolved, debug=debug, arguments=context.obj)
    if outcome is None:
        return
    if resolved.report and outcome.known and not outcome.held_by_others:
        with keeping():
            _report(resolved.out)
    if outcome.held_by_others:
        print_held(outcome.held_by_others, "report")
    end_if_failed(outcome.failed)


def run_cells(
    cells: Sequence[Cell],
    local: LocalConfig,
    *,
    debug: bool = False,
    arguments: list[str] | None = None,
) -> Outcome | None:
    """Run a list of cells, with a display of its progress.

    Args:
        cells: the cells.
        local: how they are carried out.
        debug: print tracebacks of failing cells.
        arguments: the command line, for ``--nproc``; None where a command does not take it.

    Returns:
        What became of the cells; None in a process that only shares populations.
    """
    if arguments is not None and local.procs > 1 and LAUNCHED not in os.environ:
        if stop.among_ranks():
            raise UsageError(
                "--nproc starts processes, and this is one of those that torchrun started (RANK "
                "and WORLD_SIZE are set): leave --nproc out"
            )
        _in_processes(cells, local, arguments)
    if local.threads:
        limit_threads(local.threads)
    from wash_bench.api.display import Display, display_for
    from wash_bench.distributed.process_group import process_group
    from wash_bench.runner.context import RunContext
    from wash_bench.runner.experiment import run_cells as run_list

    with keeping(), process_group(cells[0].config.training.device, local.silence) as world:
        with display_for(sys.stdout) if world.rank == 0 else Display() as display:
            context = RunContext.of(local, debug=debug, observer=display, world=world)
            outcome = run_list(cells, context)
        return None if world.rank else outcome


def run_study(
    study: Study,
    folder: Path,
    *,
    published: Path | None = None,
    debug: bool = False,
    arguments: list[str] | None = None,
) -> None:
    """Run a study, and write its table or report into ``folder``, unless its file says where."""
    from wash_bench.study.checks import check_folder

    local, folder = study.local, study.file.report.keep or folder
    check_folder(local.out, "--out")
    check_folder(folder, "--tables")
    outcome = run_cells(study.cells, local, debug=debug, arguments=arguments)
    if outcome is None:
        return
    if outcome.held_by_others:
        print_held(outcome.held_by_others, "table")
    elif local.shard[1] > 1:
        typer.echo(
            f"Share {local.shard[0]}/{local.shard[1]} is done. This command without --shard, on a "
            "folder that all shares were run on, writes the table."
        )
    elif local.report:
        from wash_bench.cli.printing import console_for_stdout
        from wash_bench.report.published import read_published
        from wash_bench.report.study import write_study

        numbers, console = read_published(published), console_for_stdout()
        text, written = write_study(study, local.out, folder, numbers=numbers, console=console)
        typer.echo(text, nl=bool(text))
        typer.echo(f"Written: {', '.join(map(str, written))}")
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


def print_held(cells: list[tuple[str, str]], what: str) -> None:
    """Say which processes run what is left, and that ``what`` is not written yet."""
    owners = "; ".join(sorted({owner for _, owner in cells}))
    some = "1 cell is" if len(cells) == 1 else f"{len(cells)} cells are"
    typer.echo(
        f"No work left: {some} being run by other processes ({owners}). The {what} is written by "
        "the last of them, or by this command once they are done; with --worker it waits for them."
    )


def _in_processes(cells: Sequence[Cell], local: LocalConfig, arguments: list[str]) -> NoReturn:
    """Carry out this command line in ``--nproc`` processes, and end with their exit code."""
    from wash_bench.cores import cores
    from wash_bench.distributed.launch import launch
    from wash_bench.distributed.world import Placement

    for population in {cell.config.training.population for cell in cells}:
        Placement(population, local.procs)  # refuses too many
    if not local.threads:
        limit_threads(max(1, cores() // local.procs))
    raise typer.Exit(launch(local.procs, arguments))


def resolved_run(preset: str | None, preset_file: Path | None, options: dict[str, Any]) -> Resolved:
    """Check the options of ``run`` and ``plan``; torch has not been imported when it returns."""
    from wash_bench.api.runs import resolved

    found = resolved(preset, preset_file, options)
    if found.threads:
        limit_threads(found.threads)
    return found


def tell_settings(resolved: Resolved) -> None:
    """Where the settings come from, and what is trained."""
    from wash_bench.study.provenance import chosen

    typer.echo(resolved.origin)
    typer.echo(chosen(resolved.config.training))


def limit_threads(threads: int) -> None:
    """Set the thread count that torch and its workers read when they are loaded."""
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = str(threads)


def _report(out: Path) -> None:
    from wash_bench.cli.printing import console_for_stdout
    from wash_bench.record.locks import REPORT, hold
    from wash_bench.report.write import write_report

    with hold(out, REPORT) as held:
        if not held:
            typer.echo(f"Report: another process is writing {out / 'report'}")
            return
        written = write_report([out], out / "report", console=console_for_stdout())
    typer.echo(f"Report: {out / 'report'} ({', '.join(path.name for path in written)})")
