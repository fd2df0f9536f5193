"""``wash-bench tune``: a grid of methods' options, chosen by validation data."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from wash_bench.cli.options import DEBUG, takes_settings
from wash_bench.cli.run import Preset, PresetFile

if TYPE_CHECKING:
    from wash_bench.study.cells import MethodSpec
    from wash_bench.study.grid import Grid
    from wash_bench.study.resolve import Resolved

SEEDS = "100,101"
WIDENINGS = 4  # rounds of settings beyond an edge


@takes_settings(
    without=("methods", "report", "procs", "worker", "shard", "coupling_budget"),
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

    Examples:
        wash-bench tune digits --grid wash.p=0.03,0.1,0.3 --grid papa.alpha=0.5,0.8 --jobs 2
        wash-bench tune --preset-file mine.toml --grid grids.toml --seeds 100,101 --widen
    """
    from wash_bench.api.runs import settings_of_start
    from wash_bench.cli.run import end_if_failed
    from wash_bench.study.checks import check_folder
    from wash_bench.study.grid import read_grid
    from wash_bench.study.resolve import resolve

    wanted = read_grid(grid or [])
    of_preset = {"seeds": None, "out": None, "method": None, "set": None}
    base = resolve(preset, preset_file, {**options, **of_preset}, start=settings_of_start)
    name = preset_file.stem if preset_file else base.config.preset
    out = options.get("out") or f"runs/tune-{name}"
    options = {**options, "out": out, "seeds": options.get("seeds") or SEEDS}
    first, specs = _specs(preset, preset_file, options, wanted)
    _own_seeds(first, base)
    folder = tables or first.out / "tuning"
    check_folder(first.out, "--out")
    check_folder(folder, "--tables")
    from wash_bench.report.tables.tuning import Tuning, notes
    from wash_bench.study.cells import cells_of

    failed = _run(first, specs, debug)
    if widen:
        failed = _widen(preset, preset_file, options, first, specs, debug) or failed
    cells = cells_of(first.config, specs, first.out)
    tuning = Tuning.of(name, first.config, base.config, cells, first.out)
    written = tuning.write(folder)
    for note in notes(tuning):
        typer.echo(note)
    typer.echo(f"Written: {', '.join(map(str, written))}")
    end_if_failed(failed)


def _specs(
    preset: str | None, preset_file: Path | None, options: dict[str, Any], grid: Grid
) -> tuple[Resolved, list[MethodSpec]]:
    """The methods of the grid with each of their settings once, a method's together."""
    from wash_bench.api.runs import settings_of_start
    from wash_bench.plugins.options import parse_set
    from wash_bench.study.resolve import resolve

    fixed = parse_set(options.get("set") or [])
    files = options.get("method") or []

    def resolved(names: Iterable[str], own: dict[str, Any]) -> Resolved:
        named = [name for name in names if not _from_file(name, files)]
        more = {"set": own, "methods": named or None, "method": files}
        return resolve(preset, preset_file, {**options, **more}, start=settings_of_start)

    first = resolved(grid, fixed)
    specs: list[MethodSpec] = []
    for method, tables in grid.items():
        for table in tables:
            found = resolved(grid, {**fixed, method: fixed.get(method, {}) | table}).specs
            specs += [spec for spec in found if spec.entry.name == method and spec not in specs]
    return first, [replace(spec, label="") for spec in specs]


def _from_file(name: str, files: list[str]) -> bool:
    """Whether a method of the grid is one of ``--methods``, whose files are looked up later."""
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


def _run(resolved: Resolved, specs: Sequence[MethodSpec], debug: bool) -> list[tuple[str, str]]:
    """Train what is not done; the failed cells."""
    from wash_bench.cli.run import run_cells
    from wash_bench.errors import WashBenchError
    from wash_bench.study.cells import cells_of

    outcome = run_cells(cells_of(resolved.config, specs, resolved.out), resolved, debug=debug)
    if outcome and (held := outcome.held_by_others):
        raise WashBenchError(
            f"{held[0][1]} is working on {len(held)} of the trainings in {resolved.out}: run the"
            " same command again when it has ended"
        )
    return outcome.failed if outcome else []


def _widen(
    preset: str | None,
    preset_file: Path | None,
    options: dict[str, Any],
    resolved: Resolved,
    specs: list[MethodSpec],
    debug: bool,
) -> list[tuple[str, str]]:
    """Add settings beyond the edges to ``specs`` and run them, until the best are inside."""
    from wash_bench.report.tables.tuning import selections
    from wash_bench.study.cells import cells_of
    from wash_bench.study.grid import widened

    failed: list[tuple[str, str]] = []
    for _ in range(WIDENINGS):
        known = {spec.entry.name: spec.entry for spec in specs}
        found = {
            each.method: settings
            for each in selections(cells_of(resolved.config, specs, resolved.out), resolved.out)
            if each.best
            and (settings := widened(each.best.options, each.ends(), known[each.method]))
        }
        if not found:
            break
        _, more = _specs(preset, preset_file, options, found)
        specs += [each for each in more if each not in specs]
        failed = _run(resolved, specs, debug)
    return failed
