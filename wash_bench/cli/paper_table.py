"""``wash-bench paper-table``: a table of the papers, run at a scale and set beside its numbers."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from wash_bench.cli import complete
from wash_bench.cli.options import DEBUG, takes_settings

if TYPE_CHECKING:
    from wash_bench.paper.cells import Line
    from wash_bench.paper.declared import Named


@takes_settings(
    *("data_dir", "download", "device", "jobs", "threads", "worker", "stale", "retry_failed"),
    population={"metavar": "LIST", "default": "the table's"},
    augment={
        "metavar": "LIST",
        "default": "the table's",
        "help": "homogeneous, heterogeneous or both, separated by a comma.",
    },
    seeds={"default": "the table's"},
    shard={"help": "Only the i-th of k shares of the trainings; merge-records joins the folders."},
    out={
        "default": "runs/paper-SCALE",
        "help": "Folder of the records; tables share equal cells, and nothing is trained twice.",
    },
)
def paper_table(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="TABLE",
            autocompletion=complete.table,
            help="A table, or a TOML file of your own with one.",
            show_default="all, one line each",
        ),
    ] = None,
    scale: Annotated[
        str,
        typer.Option(
            metavar="[paper|small|converged]",
            help="The published settings, or the same table on data and budgets of this machine: a "
            "short training, or a small one to the end.",
        ),
    ] = "small",
    plan: Annotated[
        bool, typer.Option("--plan", help="Show what it would cost; train nothing.")
    ] = False,
    published: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Published numbers of your own: a CSV with the columns of published.csv.",
            show_default="none",
        ),
    ] = None,
    tables: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Folder of the written tables.", show_default="tables in --out"
        ),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the list of tables as JSON (default: a table).")
    ] = False,
    debug: Annotated[bool, DEBUG] = False,
    **options: Any,
) -> None:
    """Run a table of the papers and write it, ours beside the published numbers.

    The same command goes on with a table that was stopped.
    """
    from wash_bench.cli.run import end_if_failed, keeping, limit_threads, tell_elsewhere
    from wash_bench.paper.cells import lines_of
    from wash_bench.paper.declared import find_table
    from wash_bench.paper.published import read_published
    from wash_bench.settings.checks import check_folder
    from wash_bench.settings.resolve import given, local_config
    from wash_bench.settings.table import LOCAL, SETTINGS

    if name is None:
        _list(as_json)
        return
    _check_scale(scale)
    numbers = {key: _numbers(key, options.pop(key)) for key in ("population", "seeds")}
    augment = (options.pop("augment") or "").split(",")
    ours = {"out": f"runs/paper-{scale}"} | given(options)
    local = local_config({key: v for key, v in ours.items() if SETTINGS[key].section == LOCAL})
    named = find_table(name)
    of_papers = read_published(published)
    lines = lines_of(
        named,
        scale,
        augment=[kind for kind in augment if kind],
        further={key: value for key, value in ours.items() if SETTINGS[key].section != LOCAL},
        **numbers,
    )
    out, tables = local.out, tables or local.out / "tables"
    check_folder(out, "--out")
    check_folder(tables, "--tables")
    if local.threads:
        limit_threads(local.threads)
    if plan:
        _plan(named, scale, lines, local.download)
        return
    from wash_bench.api.display import display_for
    from wash_bench.paper.collect import collect
    from wash_bench.paper.write import markdown, write
    from wash_bench.runner.context import RunContext
    from wash_bench.runner.experiment import run_cells

    with keeping(), display_for(sys.stdout) as display:
        means = RunContext.of(local, debug=debug, observer=display)
        outcome = run_cells([cell for line in lines for cell in line.cells], means)
    if outcome.elsewhere:
        tell_elsewhere(outcome.elsewhere, "table")
    elif local.shard[1] > 1:
        typer.echo(
            f"Share {options['shard']} is done. merge-records joins the run folders; this command "
            "without --shard, on the folder that holds all, writes the table."
        )
    else:
        table = collect(named, scale, lines, out, of_papers)
        written = write(table, tables)
        typer.echo(markdown(table))
        typer.echo(f"Written: {', '.join(map(str, written))}")
    end_if_failed(outcome.failed)


def _check_scale(scale: str) -> None:
    """Refuse a scale that no table has."""
    from wash_bench.errors import UsageError, nearest
    from wash_bench.paper.declared import SCALES

    if scale not in SCALES:
        raise UsageError(f"--scale {scale}: {nearest(scale, SCALES)}")


def _list(as_json: bool) -> None:
    from wash_bench.cli.printing import print_json, print_rows
    from wash_bench.paper.declared import find_table, table_names

    if as_json:
        tables = {name: find_table(name).table for name in table_names()}
        print_json(
            [
                {"name": name, "title": table.title, "papers": table.papers,
                 "scales": list(table.scale)}
                for name, table in tables.items()
            ]
        )  # fmt: skip
        return
    rows = []
    for name in table_names():
        table = find_table(name).table
        rows.append((name, table.title, ", ".join(table.papers), ", ".join(table.scale)))
    print_rows(("table", "what it is", "papers", "scales"), rows)


def _plan(named: Named, scale: str, lines: list[Line], download: bool) -> None:
    from wash_bench.cli.printing import print_rows
    from wash_bench.paper.cost import plan_lines
    from wash_bench.runner.units import count, size, span

    plans, notes = plan_lines(lines, download=download)
    headings = ("row", "N", "augmentation", "seeds", "steps", "sent", "on the wire", "time")
    rows = [
        (
            planned.line.row.label,
            str(planned.line.population),
            planned.line.augment,
            str(len(planned.line.resolved.config.seeds)),
            count(planned.cell.steps),
            size(planned.cell.sent_bytes),
            size(planned.cell.wire_bytes),
            span(planned.seconds),
        )
        for planned in plans
    ]
    typer.echo(f"{named.table.title}: {named.name} at scale {scale}; bytes are per member and seed")
    print_rows(headings, rows, right=("N", "seeds", *headings[4:]))
    for note in notes:
        typer.echo(note)
    total = span(sum(planned.seconds for planned in plans))
    typer.echo(f"Estimated time of all trainings, one after another: {total}")


def _numbers(key: str, text: str | None) -> tuple[int, ...]:
    from wash_bench.settings.layers import Layer, parse_list

    return () if text is None else parse_list(Layer("", {key: text}), key, int)
