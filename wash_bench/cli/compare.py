"""``wash-bench compare``: two reports side by side."""

from pathlib import Path
from typing import Annotated

import typer

from wash_bench.cli.options import DEBUG

FORMS = (".md", ".csv")


def compare(
    a: Annotated[Path, typer.Argument(metavar="A", help="A report or a run folder.")],
    b: Annotated[Path, typer.Argument(metavar="B", help="Another one.")],
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Write the comparison to FILE too: .md as it is printed, or .csv.",
            show_default="only printed",
        ),
    ] = None,
    debug: Annotated[bool, DEBUG] = False,
) -> None:
    """Compare two reports, as of two machines or versions: differences, and whether they are noise.

    Prints Markdown: first what differs in configuration and environment, then each method's
    metrics, paired over the seeds that both have.

    Examples:
        wash-bench compare report-laptop report-server
        wash-bench compare runs/old runs/new --out comparison.csv
    """
    if out is not None:
        _check_name(out)
    from wash_bench.files import write_text
    from wash_bench.report.csv_text import csv_text
    from wash_bench.report.tables.compare import compare as compare_reports

    comparison = compare_reports(a, b)
    text = comparison.markdown()
    if out is not None:
        csv = out.suffix == ".csv"
        write_text(out, csv_text(comparison.frame()) if csv else text)
    typer.echo(text, nl=False)


def _check_name(out: Path) -> None:
    """Refuse, with a UsageError, a file that cannot be written or has no form."""
    from wash_bench.errors import UsageError
    from wash_bench.study.checks import check_folder

    if out.suffix not in FORMS:
        raise UsageError(f"--out {out}: the name must end in {' or '.join(FORMS)}")
    check_folder(out.parent, "--out")
