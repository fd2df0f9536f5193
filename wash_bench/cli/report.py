"""``wash-bench report``: tables and plots from run folders."""

from pathlib import Path
from typing import Annotated

import typer

from wash_bench.cli.options import DEBUG
from wash_bench.report.figures.catalogue import FIGURES, parse_names


def report(
    runs: Annotated[
        list[Path],
        typer.Argument(metavar="RUNS...", help="Run folders, or folders that hold run folders."),
    ],
    out: Annotated[
        Path, typer.Option(metavar="DIR", help="Folder that the report is written to.")
    ] = Path("report"),
    parquet: Annotated[
        bool,
        typer.Option(
            "--parquet",
            help="Write the tables as Parquet too; needs pyarrow (the extra parquet).",
        ),
    ] = False,
    figures: Annotated[
        str,
        typer.Option(
            metavar="NAMES",
            help=f"Figures to draw, separated by commas: {', '.join(FIGURES)}; or all that the "
            "records allow, or none.",
        ),
    ] = "all",
    methods: Annotated[
        list[str] | None,
        typer.Option(
            metavar="LIST", help="Methods that the report is of.", show_default="all of the records"
        ),
    ] = None,
    baseline: Annotated[
        str,
        typer.Option(
            metavar="METHOD",
            help="Compare every row with this one, in the table and in comparisons.csv: a method, "
            "or a variant as the table names it.",
            show_default="best-member where the table has it",
        ),
    ] = "",
    margin: Annotated[
        float | None,
        typer.Option(
            metavar="POINTS",
            help="Say which rows are equivalent to the baseline within so many points of accuracy "
            "(two one-sided tests).",
            show_default="none",
        ),
    ] = None,
    target: Annotated[
        float | None,
        typer.Option(
            metavar="PERCENT",
            help="Report the steps and seconds to this validation accuracy: of the members' mean, "
            "and with run --eval-average-every of their average and ensemble.",
            show_default="none",
        ),
    ] = None,
    layout: Annotated[
        str,
        typer.Option(
            metavar="[main|methods]",
            help="With methods, write methods.md too: all methods, compact, by their kind.",
        ),
    ] = "main",
    columns: Annotated[
        str,
        typer.Option(
            metavar="KEYS",
            help="Columns of the main table, separated by commas, by their names in summary.csv, "
            "as ensemble_acc,average_acc,average_nll.",
            show_default="the usual ones",
        ),
    ] = "",
    pdf: Annotated[
        bool, typer.Option("--pdf", help="Write figures as PDF too, beside PNG and SVG.")
    ] = False,
    style: Annotated[
        str,
        typer.Option(
            metavar="[plain|neurips|icml|ieee]",
            help="What paper figures and table.tex are for: widths and fonts.",
        ),
    ] = "plain",
    debug: Annotated[bool, DEBUG] = False,
) -> None:
    """Write report.html, the tables as CSV, Markdown and LaTeX, and the plots; print the table.

    The table can be pasted into Markdown as it stands. Only records are read, nothing
    is trained or evaluated.

    Examples:
        wash-bench report runs
        wash-bench report runs/digits runs/fashion --out report
    """
    from wash_bench.study.checks import check_folder

    _check_runs(runs)
    check_folder(out, "--out")
    from wash_bench.cli.printing import console_for_stdout
    from wash_bench.report.options import parse_columns
    from wash_bench.report.style import check_paper
    from wash_bench.report.write import write_report

    drawn = parse_names(figures)
    keys = parse_columns(columns)
    written = write_report(
        runs,
        out,
        console=console_for_stdout(),
        parquet=parquet,
        figures=drawn,
        pdf=pdf,
        baseline=baseline,
        target=target,
        paper=check_paper(style),
        columns=keys,
        methods=tuple(name.strip() for name in ",".join(methods or ()).split(",") if name.strip()),
        margin=margin,
        layout=layout,
    )
    typer.echo(f"Written to {out}: {', '.join(path.name for path in written)}")


def _check_runs(runs: list[Path]) -> None:
    """Refuse, with a UsageError, what is no folder."""
    from wash_bench.errors import UsageError

    for folder in runs:
        if not folder.is_dir():
            raise UsageError(f"no run folder {folder}: check the path, or start a run with --out")
