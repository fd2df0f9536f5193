"""``wash-bench tune``: a grid of methods' options, chosen by validation data."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from wash_bench.cli.options import DEBUG, takes_settings
from wash_bench.cli.run import Preset, PresetFile

if TYPE_CHECKING:
    from wash_bench.settings.resolve import Resolved
    from wash_bench.settings.sweep import Round
    from wash_bench.tuning.grid import Grid

SEEDS = "100,101"
WIDENINGS = 4  # rounds of settings beyond an edge


@takes_settings(
    without=("methods", "report", "procs", "worker", "stale", "shard", "coupling_budget"),
    of_preset=True,
    seeds={
        "default": SEEDS,
        "help": "Seeds of the trainings, separated by commas; none that the preset's results use.",
    },
    out={"default": "runs/tune-PRESET"},
)
def tune(
    preset: Preset = None,
    preset_file: PresetFile = None,
    grid: Annotated[
        list[str] | None,
        typer.Option(
            metavar="METHOD.OPTION=V1,V2|FILE",
            help="Values to try, or a TOML file of whole grids; repeatable, and all combinations "
            "of a method's options are tried.",
            show_default="none",
        ),
    ] = None,
    tables: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Folder of tuning.md, tuning.csv and tuned.toml.",
            show_default="tuning in --out",
        ),
    ] = None,
    widen: Annotated[
        bool,
        typer.Option("--widen", help="Go on beyond the edge at which a best value stands."),
    ] = False,
    debug: Annotated[bool, DEBUG] = False,
    **options: Any,
) -> None:
    """Try settings of methods, and choose each method's by validation accuracy.

    Writes the table of all that was tried, and a preset file with the best. The same command goes
    on with a tuning that was stopped; more values are tried beside those that are done.
    """
    from wash_bench.cli.run import end_if_failed, keeping, limit_threads
    from wash_bench.networks.start import of_start
    from wash_bench.settings.checks import check_folder, check_start
    from wash_bench.settings.resolve import resolve
    from wash_bench.tuning.grid import read_grid

    wanted = read_grid(grid or [])
    base = resolve(preset, preset_file, {**options, "seeds": None, "out": None, "method": None,
                                         "set": None})  # fmt: skip
    name = preset_file.stem if preset_file else base.config.preset
    out = options.get("out") or f"runs/tune-{name}"
    check_start(base.config.training)
    more, _ = of_start(base.config.training, base.chosen, base.download)
    options = {**options, **more, "out": out, "seeds": options.get("seeds") or SEEDS}
    first, rounds = _rounds(preset, preset_file, options, wanted)
    _own_seeds(first, base)
    folder = tables or first.out / "tuning"
    check_folder(first.out, "--out")
    check_folder(folder, "--tables")
    if first.threads:
        limit_threads(first.threads)
    with keeping():
        failed = _run(first, rounds, debug)
        if widen:
            failed = _widen(preset, preset_file, options, first, rounds, debug) or failed
    _tell(name, first, base, rounds, folder)
    end_if_failed(failed)


def _rounds(
    preset: str | None, preset_file: Path | None, options: dict[str, Any], grid: Grid
) -> tuple[Resolved, list[Round]]:
    """The settings of the grid, each once, under everything else that was asked for."""
    from wash_bench.plugins.options import parse_set
    from wash_bench.settings.resolve import resolve
    from wash_bench.settings.sweep import rounds

    fixed = parse_set(options.get("set") or [])
    files = options.get("method") or []
    found, resolved = [], None
    for block in rounds(grid):
        own = {method: fixed.get(method, {}) | table for method, table in block.items()}
        named = [name for name in block if not _from_file(name, files)]
        more = {"set": {**fixed, **own}, "methods": named or None, "method": files}
        resolved = resolve(preset, preset_file, {**options, **more})
        found += [each for each in resolved.rounds if each not in found]
    assert resolved is not None
    return resolved, found


def _from_file(name: str, files: list[str]) -> bool:
    """Whether a method of the grid is one of ``--method``, whose files are looked up later."""
    from wash_bench.plugins.registry import load_method_file

    return any(load_method_file(spec).name == name for spec in files)


def _own_seeds(resolved: Resolved, base: Resolved) -> None:
    """Refuse seeds on which the preset's results are measured."""
    from wash_bench.errors import UsageError

    if shared := sorted(set(resolved.config.seeds) & set(base.config.seeds)):
        raise UsageError(
            f"--seeds {','.join(map(str, resolved.config.seeds))}: the preset's own results use "
            f"{', '.join(map(str, shared))}; tune on others, as {SEEDS}"
        )


def _run(resolved: Resolved, rounds: list[Round], debug: bool) -> list[tuple[str, str]]:
    """Train what is not done; the failed cells."""
    from wash_bench.api.display import display_for
    from wash_bench.runner.context import RunContext
    from wash_bench.runner.experiment import run_rounds

    with display_for(sys.stdout) as display:
        means = RunContext.of(resolved, debug=debug, observer=display)
        return run_rounds(rounds, means).failed


def _widen(
    preset: str | None,
    preset_file: Path | None,
    options: dict[str, Any],
    resolved: Resolved,
    rounds: list[Round],
    debug: bool,
) -> list[tuple[str, str]]:
    """Add settings beyond the edges to ``rounds`` and run them, until the best are inside."""
    from wash_bench.tuning.grid import widened
    from wash_bench.tuning.outcome import outcome_of

    failed: list[tuple[str, str]] = []
    for _ in range(WIDENINGS):
        known = {entry.name: entry for _, entries in rounds for entry in entries}
        found = {
            tuned.method: settings
            for tuned in outcome_of(rounds, resolved.out)
            if (settings := widened(tuned, known[tuned.method]))
        }
        if not found:
            break
        _, more = _rounds(preset, preset_file, options, found)
        rounds += [each for each in more if each not in rounds]
        failed = _run(resolved, rounds, debug)
    return failed


def _tell(name: str, resolved: Resolved, base: Resolved, rounds: list[Round], folder: Path) -> None:
    """Write the tables, and print the choice."""
    from wash_bench.tuning.outcome import environments_of, outcome_of
    from wash_bench.tuning.write import Tuning, notes, write

    tuning = Tuning(
        name,
        resolved.config,
        base.config,
        outcome_of(rounds, resolved.out),
        environments_of(rounds, resolved.out),
    )
    written = write(tuning, folder)
    for note in notes(tuning):
        typer.echo(note)
    typer.echo(f"Written: {', '.join(map(str, written))}")
