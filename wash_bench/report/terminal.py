"""The main table as it is printed: GitHub Markdown, the columns that fit; all are in table.md."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from wash_bench.report.grid import DAGGER, Cell, Table, escape
from wash_bench.report.main_table import main_tables

if TYPE_CHECKING:
    from rich.console import Console

    from wash_bench.report.frames import Records

# The table's column, and its name in the terminal.
COLUMNS = {
    "method": "method",
    "members [min, max]": "members",
    "ensemble": "ensemble",
    "averaged": "averaged",
    "averaged, BN re-est.": "BN re-est.",
    "greedy soup (size)": "greedy soup",
    "loss barrier, max": "barrier",
    "MB sent": "MB sent",
    "train s": "train s",
}
# What a narrow terminal goes without, in this order.
DROPPED = ("train s", "greedy soup (size)", "loss barrier, max", "averaged, BN re-est.", "MB sent")


def print_table(records: Records, console: Console) -> None:
    """Print each experiment's table, its notes, and what could not be read.

    What is printed is Markdown, so that it can be pasted into an issue or a lab notebook.

    Args:
        records: what ``frames.load`` read.
        console: where to; its width decides which columns are shown.
    """
    for table in main_tables(records, digits=1):
        _say(console, f"### {escape(table.title)}", "bold")
        _say(console)
        if table.rows:
            # Never wrapped: a broken row would be no row any more.
            console.print(
                markdown(table, console.width), highlight=False, markup=False, soft_wrap=True
            )
            _say(console)
            _say(console, f"Accuracies in per cent; {escape(table.intervals)}")
        else:
            _say(console, "No cell finished.")
        _say(console)
        # Not the settings: they are long, and the user has just given them.
        for note in table.notes:
            if not note.startswith("Options: "):
                _say(console, f"- {escape(note)}")
        _say(console)
    for warning in records.warnings:
        _say(console, f"warning: {warning}", "yellow")


def markdown(table: Table, width: int) -> str:
    """A Markdown table of the columns that fit into ``width`` characters, aligned for the eye."""
    from tabulate import tabulate

    names = list(COLUMNS)
    for dropped in (None, *DROPPED):
        names = [name for name in names if name != dropped]
        places = [table.columns.index(name) for name in names]
        text = tabulate(
            [[_entry(row[place]) for place in places] for row in table.rows],
            headers=[COLUMNS[name] for name in names],
            tablefmt="pipe",
            disable_numparse=True,
            colalign=["left"] + ["right"] * (len(names) - 1),
        )
        if max(map(len, text.splitlines())) <= width:
            break
    return text


def _entry(cell: Cell) -> str:
    """The entry without the spread over members, with its marks."""
    text = escape(re.sub(r" \[.*\]", "", cell.text))
    return (f"**{text}**" if cell.best else text) + (f" {DAGGER}" if cell.tied else "")


def _say(console: Console, text: str = "", style: str | None = None) -> None:
    console.print(text, highlight=False, markup=False, style=style)
