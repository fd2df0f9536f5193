"""``wash-bench merge-records``: run folders of several machines become one."""

from pathlib import Path
from typing import Annotated

import typer

from wash_bench.cli.options import DEBUG


def merge_records(
    sources: Annotated[
        list[Path],
        typer.Argument(metavar="SRC...", help="Run folders, or folders that hold run folders."),
    ],
    out: Annotated[
        Path,
        typer.Option(metavar="DIR", help="Run folder that receives them.", show_default=False),
    ],
    debug: Annotated[bool, DEBUG] = False,
) -> None:
    """Join run folders into one, which can be reported and gone on with as any other.

    The sources are only read. What is equal is kept once; where two differ, the target's is kept
    and a line tells so.

    Examples:
        wash-bench merge-records host1/runs host2/runs --out runs/all
    """
    from wash_bench.settings.checks import check_folder

    check_folder(out, "--out")
    from wash_bench.record.join import join_folders

    joined = join_folders(sources, out)
    for line in joined.conflicts:
        typer.echo(f"wash-bench: {line}", err=True)
    typer.echo(
        f"{out}: {joined.cells} cells and {joined.trainings} trainings added, {joined.equal} there"
        f" already, {len(joined.conflicts)} conflicts"
    )
