"""``wash-bench paper-table``: a table of the papers, run at a scale and set beside its numbers."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from wash_bench.cli.options import DEBUG, MACHINE, RECORD, WHAT

if TYPE_CHECKING:
    from wash_bench.paper.cells import Line
    from wash_bench.paper.declared import Named


def _opt(
    help: str, panel: str, metavar: str | None = None, shown: str | bool = True, **limits: Any
):
    """An option under a heading of the help; ``shown`` is the default in words."""
    return typer.Option(
        help=help, rich_help_panel=panel, metavar=metavar, show_default=shown, **limits
    )


def _flag(name: str, help: str, panel: str):
    return typer.Option(name, help=help, rich_help_panel=panel)


def paper_table(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="TABLE",
            help="A table, or a TOML file of your own with one.",
            show_default="all, one line each",
        ),
    ] = None,
    scale: Annotated[
        str,
        _opt("The published settings, or the same table on data and budgets of this machine.", WHAT,
             "[paper|small]"),
    ] = "small",
    population: Annotated[str | None, _opt("Members N.", WHAT, "LIST", "the table's")] = None,
    augment: Annotated[
        str | None,
        _opt("homogeneous, heterogeneous or both, separated by a comma.", WHAT, "LIST",
             "the table's"),
    ] = None,
    seeds: Annotated[str | None, _opt("Seeds.", WHAT, "LIST", "the table's")] = None,
    plan: Annotated[bool, _flag("--plan", "Show what it would cost; train nothing.", WHAT)] = False,
    published: Annotated[
        Path | None,
        _opt("Published numbers of your own: a CSV with the columns of published.csv.", WHAT,
             "FILE", "none"),
    ] = None,
    data_dir: Annotated[
        Path | None,
        _opt("Folder that holds, or receives, the data.", MACHINE, "DIR", "the user's cache"),
    ] = None,
    download: Annotated[bool, _flag("--download", "Download missing data.", MACHINE)] = False,
    device: Annotated[
        str | None, _opt("auto, cpu, cuda, cuda:1 or mps.", MACHINE, "NAME", "auto")
    ] = None,
    jobs: Annotated[int, _opt("Trainings side by side.", MACHINE, "J", min=1)] = 1,
    threads: Annotated[
        int, _opt("CPU threads of each job (0: the cores divided).", MACHINE, "THREADS", min=0)
    ] = 0,
    worker: Annotated[
        bool,
        _flag("--worker", "Work beside other workers, on any hosts, that were given the same "
              "command and share --out.", MACHINE),
    ] = False,
    stale: Annotated[
        int, _opt("A worker that gives no sign of life for so long is replaced.", MACHINE,
                  "SECONDS", min=10)
    ] = 120,
    shard: Annotated[
        str,
        _opt("Only the i-th of k shares of the trainings; merge-records joins the folders.",
             MACHINE, "I/K"),
    ] = "1/1",
    out: Annotated[
        Path | None,
        _opt("Folder of the records; tables share equal cells, and nothing is trained twice.",
             RECORD, "DIR", "runs/paper-SCALE"),
    ] = None,
    tables: Annotated[
        Path | None, _opt("Folder of the written tables.", RECORD, "DIR", "tables in --out")
    ] = None,
    retry_failed: Annotated[
        bool, _flag("--retry-failed", "Train cells that failed before again.", RECORD)
    ] = False,
    debug: Annotated[bool, DEBUG] = False,
) -> None:  # fmt: skip
    """Run a table of the papers and write it, ours beside the published numbers.

    The same command goes on with a table that was stopped.
    """
    from wash_bench.cli.run import check_folder, end_if_failed, limit_threads, tell_elsewhere
    from wash_bench.errors import UsageError, nearest
    from wash_bench.paper.cells import lines_of
    from wash_bench.paper.declared import SCALES, find_table
    from wash_bench.paper.published import read_published
    from wash_bench.settings.local import local_options

    if name is None:
        _list()
        return
    if scale not in SCALES:
        raise UsageError(f"--scale {scale}: {nearest(scale, SCALES)}")
    local = local_options(
        {"jobs": jobs, "worker": worker, "shard": shard}, lambda key, value: f"--{key} {value}"
    )
    named = find_table(name)
    numbers = read_published(published)
    further: dict[str, Any] = {"device": device}
    if data_dir is not None:
        further["data_dir"] = str(data_dir)
    lines = lines_of(
        named,
        scale,
        population=_numbers("--population", population),
        augment=augment.split(",") if augment else (),
        seeds=_numbers("--seeds", seeds),
        further=further,
    )
    out = out or Path("runs") / f"paper-{scale}"
    tables = tables or out / "tables"
    check_folder(out, "--out")
    check_folder(tables, "--tables")
    if threads:
        limit_threads(threads)
    if plan:
        _plan(named, scale, lines, download)
        return
    from wash_bench.cli.display import display_for
    from wash_bench.paper.collect import collect
    from wash_bench.paper.tasks import task_groups
    from wash_bench.runner.context import RunContext
    from wash_bench.runner.experiment import run_tasks

    try:
        with display_for(sys.stdout) as display:
            context = RunContext(
                out,
                jobs=jobs,
                threads=threads,
                download=download,
                retry_failed=retry_failed,
                debug=debug,
                observer=display,
                shard=local["shard"],
                worker=worker,
                stale=stale,
            )
            outcome = run_tasks(lambda: task_groups(lines), context)
    except KeyboardInterrupt:
        from wash_bench.errors import Interrupted

        raise Interrupted(
            "interrupted; all that is finished is kept, and the same command goes on from it"
        ) from None
    if outcome.elsewhere:
        tell_elsewhere(outcome.elsewhere, "table")
    elif local["shard"][1] > 1:
        typer.echo(
            f"Share {shard} is done. merge-records joins the run folders; this command without "
            "--shard, on the folder that holds all, writes the table."
        )
    else:
        table = collect(named, scale, lines, out, numbers)
        written = table.write(tables)
        typer.echo(table.markdown())
        typer.echo(f"Written: {', '.join(map(str, written))}")
    end_if_failed(outcome.failed)


def _list() -> None:
    from wash_bench.cli.tables import print_rows
    from wash_bench.paper.declared import find_table, table_names

    rows = []
    for name in table_names():
        table = find_table(name).table
        rows.append((name, table.title, ", ".join(table.papers), ", ".join(table.scale)))
    print_rows(("table", "what it is", "papers", "scales"), rows)


def _plan(named: Named, scale: str, lines: list[Line], download: bool) -> None:
    from wash_bench.cli.tables import count, print_rows, size, span
    from wash_bench.paper.tasks import plan_lines

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


def _numbers(option: str, text: str | None) -> tuple[int, ...]:
    from wash_bench.settings.layers import Layer, parse_list

    if text is None:
        return ()
    key = option.removeprefix("--")
    return parse_list(Layer("", {key: text}), key, int)
