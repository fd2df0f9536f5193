"""Printing: a Rich table on a terminal, the same table without cropping elsewhere."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from wash_bench.errors import printable

if TYPE_CHECKING:
    from rich.console import Console

PLAIN_WIDTH = 200


def console_for_stdout() -> Console:
    """A console that does not wrap at 80 columns when it writes into a file or a pipe."""
    import sys

    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else PLAIN_WIDTH, highlight=False)


def print_rows(
    headings: Sequence[str], rows: Iterable[Sequence[str]], *, right: Sequence[str] = ()
) -> None:
    """Print a table; the columns whose headings are in ``right`` are right-aligned."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in headings:
        table.add_column(heading, justify="right" if heading in right else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(printable(cell)) for cell in row))
    console_for_stdout().print(table)


def print_json(data: object) -> None:
    """Print data as JSON, for another program."""
    import json

    import typer

    typer.echo(json.dumps(data, indent=1))
