"""``wash-bench paper-table``: a table of the papers, run at a scale and set beside its numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from wash_bench.cli import complete
from wash_bench.cli.options import DEBUG, takes_settings


@takes_settings(
    *("data_dir", "download", "device", "jobs", "threads", "worker", "retry_failed"),
    population={"metavar": "LIST", "default": "the table's"},
    augment={
        "metavar": "LIST",
        "default": "the table's",
        "help": "same, per-member or both, separated by a comma.",
    },
    seeds={"default": "the table's"},
    shard={"help": "Only the i-th of k shares of the trainings; the report reads all folders."},
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

    Examples:
        wash-bench paper-table
        wash-bench paper-table ablation-p --jobs 2
        wash-bench paper-table cifar10-resnet18 --scale paper --plan
        wash-bench paper-table imagenet-resnet50 --published mine.csv --scale paper
    """
    from wash_bench.api.runs import settings_of_start
    from wash_bench.cli.plan import plan_study
    from wash_bench.cli.run import run_study
    from wash_bench.report.published import read_published
    from wash_bench.study.file import find_table, study_of
    from wash_bench.study.resolve import given

    if name is None:
        _list(as_json)
        return
    _check_scale(scale)
    numbers = {key: _numbers(key, options.pop(key)) for key in ("population", "seeds")}
    augment = (options.pop("augment") or "").split(",")
    ours = {"out": f"runs/paper-{scale}"} | given(options)
    read_published(published)  # refuses a wrong file before anything is trained
    study = study_of(
        find_table(name),
        scale,
        ours | ({"seeds": seeds} if (seeds := numbers["seeds"]) else {}),
        population=numbers["population"],
        augment=[kind for kind in augment if kind],
        start=settings_of_start,
    )
    if plan:
        plan_study(study)
        return
    tables = tables or study.local.out / "tables"
    run_study(study, tables, published=published, debug=debug)


def _check_scale(scale: str) -> None:
    """Refuse a scale that no table has."""
    from wash_bench.errors import UsageError, nearest
    from wash_bench.study.file import SCALES

    if scale not in SCALES:
        raise UsageError(f"--scale {scale}: {nearest(scale, SCALES)}")


def _list(as_json: bool) -> None:
    from wash_bench.cli.printing import print_json, print_rows
    from wash_bench.study.file import find_table, table_names

    if as_json:
        tables = {name: find_table(name).file for name in table_names()}
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
        table = find_table(name).file
        rows.append((name, table.title, ", ".join(table.papers), ", ".join(table.scale)))
    print_rows(("table", "what it is", "papers", "scales"), rows)


def _numbers(key: str, text: str | None) -> tuple[int, ...]:
    from wash_bench.study.sources import ConfigSource, parse_list

    return () if text is None else parse_list(ConfigSource("", {key: text}), key, int)
