"""The main table in a terminal: the columns that fit; the whole of it is in table.md."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from wash_bench.report.grid import DAGGER, Cell, Table
from wash_bench.report.tables import main_tables

if TYPE_CHECKING:
    from rich.console import Console

    from wash_bench.report.frames import Records

# The table's column, and its name in the terminal.
COLUMNS = {
    "method": "method",
    "members [min, max]": "members",
    "ensemble": "ensemble",
    "averaged": "averaged",
    "averaged, BN re-est.": "averaged,\nBN re-est.",
    "greedy soup (size)": "greedy\nsoup",
    "loss barrier, max": "loss\nbarrier",
    "MB sent": "MB\nsent",
    "train s": "train\ns",
}
# What a narrow terminal goes without, in this order.
DROPPED = ("train s", "greedy soup (size)", "loss barrier, max")


def print_table(records: Records, console: Console) -> None:
    """Print each experiment's table, its notes, and what could not be read.

    Args:
        records: what ``frames.load`` read.
        console: where to; its width decides which columns are shown.
    """
    from rich import box
    from rich.markup import escape
    from rich.table import Table as RichTable
    from rich.text import Text

    for table in main_tables(records, digits=1):
        names, stacked = _fit(table, console.width)
        view = RichTable(
            title=escape(table.title),
            title_style="bold",
            title_justify="left",
            box=box.SIMPLE_HEAD,
            pad_edge=False,
            collapse_padding=True,
        )
        for name in names:
            view.add_column(
                COLUMNS[name],
                justify="left" if name == "method" else "right",
                overflow="fold",
                min_width=8 if name == "method" else _width(table, name, stacked),
            )
        for row in table.rows:
            entries = [row[table.columns.index(name)] for name in names]
            view.add_row(*(Text(*_styled(cell, stacked, console.is_terminal)) for cell in entries))
        if table.rows:
            console.print(view)
            console.print(f"Accuracies in per cent; {table.intervals}", highlight=False)
        else:
            console.print(f"{escape(table.title)}: no cell finished", highlight=False)
        # Not the settings: they are long, and the user has just given them.
        for note in table.notes:
            if not note.startswith("Options: "):
                if not console.is_terminal:
                    note = note.replace("Bold:", "*:").replace("the bold value", "the value with *")
                console.print(f"- {escape(note)}", highlight=False)
    for warning in records.warnings:
        console.print(f"warning: {escape(warning)}", highlight=False, style="yellow")


def _fit(table: Table, width: int) -> tuple[list[str], bool]:
    """The columns to show, and whether the intervals go below their means."""
    names = list(COLUMNS)
    if _total(table, names, stacked=False) <= width:
        return names, False
    for name in (None, *DROPPED):
        names = [other for other in names if other != name]
        if _total(table, names, stacked=True) <= width:
            break
    return names, True


def _total(table: Table, names: list[str], *, stacked: bool) -> int:
    gaps = 2 * len(names)
    return gaps + sum(_width(table, name, stacked) for name in names)


def _width(table: Table, name: str, stacked: bool) -> int:
    place = table.columns.index(name)
    entries = [COLUMNS[name], *(_short(row[place], stacked) for row in table.rows)]
    star = any(row[place].best for row in table.rows)
    return max(len(line) for entry in entries for line in entry.splitlines()) + star


def _styled(cell: Cell, stacked: bool, terminal: bool) -> tuple[str, str]:
    """The entry and its style; a log file shows no bold, so the best has a star there."""
    text = _short(cell, stacked)
    if not cell.best:
        return text, ""
    if terminal:
        return text, "bold"
    mean, *interval = text.split("\n")
    return "\n".join([f"{mean}*", *interval]), ""


def _short(cell: Cell, stacked: bool) -> str:
    """The entry without the spread over members, with its mark."""
    text = re.sub(r" \[.*\]", "", cell.text) + (DAGGER if cell.tied else "")
    return text.replace(" ± ", "\n± ") if stacked else text
