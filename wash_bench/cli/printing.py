"""Printing: a Rich table on a terminal, the same table without cropping elsewhere; units."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

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
        table.add_row(*(Text(cell) for cell in row))
    console_for_stdout().print(table)


def print_json(data: object) -> None:
    """Print data as JSON, for another program."""
    import json

    import typer

    typer.echo(json.dumps(data, indent=1))


NOT_PREDICTED = "not predicted"  # of a method that does not say what it will send


def count(value: float | None) -> str:
    """A number of things with thousands separators, one decimal where it is an expectation."""
    if value is None:
        return NOT_PREDICTED
    return f"{value:,.0f}" if value == round(value) else f"{value:,.1f}"


def size(n_bytes: float | None) -> str:
    """Bytes in decimal units, as ``12.3 MB``."""
    if n_bytes is None:
        return NOT_PREDICTED
    for unit in ("B", "kB", "MB", "GB"):
        if n_bytes < 1000:
            return f"{n_bytes:.0f} B" if unit == "B" else f"{n_bytes:.1f} {unit}"
        n_bytes /= 1000
    return f"{n_bytes:,.1f} TB"


def span(seconds: float | None) -> str:
    """A duration as ``0:21``, ``1:02:03`` or ``3 d 4 h``; ``-`` where it is not known."""
    if seconds is None:
        return "-"
    whole = max(0, round(seconds))
    if whole >= 48 * 3600:
        return f"{whole // 86400} d {whole % 86400 // 3600} h"
    hours, rest = divmod(whole, 3600)
    if hours:
        return f"{hours}:{rest // 60:02d}:{rest % 60:02d}"
    return f"{rest // 60}:{rest % 60:02d}"
