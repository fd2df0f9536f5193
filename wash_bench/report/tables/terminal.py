"""The main table as it is printed: GitHub Markdown, the columns that fit; all are in table.md."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

from wash_bench.metrics import METRICS
from wash_bench.report.tables.markdown import escape
from wash_bench.report.tables.markdown import table as write_table
from wash_bench.report.tables.table import Table, TableCell

if TYPE_CHECKING:
    from rich.console import Console

    from wash_bench.report.read.frames import Records

# What a narrow terminal goes without, in this order; it is said.
DROPPED = (
    "train_seconds", "greedy_acc", "average_bn_acc", "best_acc", "average_acc", "exchange_rounds",
    "deep_ensemble_equivalent", "method_nll_ts", "ensemble_acc", "member_acc_mean",
    "barrier_loss_max", "sent_bytes_total",
)  # fmt: skip


def print_table(records: Records, console: Console) -> None:
    """Print the main tables of records, and what could not be read."""
    from wash_bench.report.tables.main_table import main_tables

    print_tables(main_tables(records, digits=1), records.warnings, console)


def print_tables(tables: Iterable[Table], warnings: Iterable[str], console: Console) -> None:
    """Print each table as Markdown, in columns that fit the console, and the warnings."""
    for table in tables:
        _say(console, f"### {escape(table.title)}", "bold")
        _say(console)
        if table.answer:
            _say(console, escape(table.answer), "bold")
            _say(console)
        if not table.keys:  # no main table: it has few columns
            console.print(table.body(), highlight=False, markup=False, soft_wrap=True)
            _say(console)
            continue
        if table.rows:
            # Never wrapped: a broken row would be no row any more.
            text, left_out = markdown(table, console.width)
            console.print(text, highlight=False, markup=False, soft_wrap=True)
            _say(console)
            if left_out:
                _say(console, f"Too narrow here for {', '.join(left_out)}: report.html has all.")
            _say(console, f"Accuracies in per cent; {escape(table.intervals)}")
        else:
            _say(console, "No cell finished.")
        _say(console)
        # Not the settings: they are long, and the user has just given them.
        for note in table.notes:
            if not note.startswith("Options: "):
                _say(console, f"- {escape(note)}")
        _say(console)
    for warning in warnings:
        _say(console, f"warning: {warning}", "yellow")


def markdown(table: Table, width: int) -> tuple[str, list[str]]:
    """Write the columns that fit into ``width`` characters in Markdown, aligned for the eye.

    Returns:
        The table, and the headings of columns that were left out.
    """
    short = {"method": "method"}
    for key, heading in zip(table.keys[1:], table.columns[1:], strict=True):
        short[key] = METRICS[key].short or (heading if table.chosen else "")
    keys = [key for key, heading in short.items() if heading]
    dropped, left_out = iter(DROPPED), list[str]()
    while True:
        places = [table.keys.index(key) for key in keys]
        rows = [[_entry(row[place]) for place in places] for row in table.rows]
        text = write_table([short[key] for key in keys], rows, padded=True)
        without = next(dropped, None)
        if without is None or max(map(len, text.splitlines())) <= width:
            return text, left_out
        left_out += [short[key] for key in keys if key == without]
        keys = [key for key in keys if key != without]


def _entry(cell: TableCell) -> str:
    """The entry without the spread over members, with its marks."""
    return replace(cell, text=re.sub(r" \[.*\]", "", cell.text)).markdown()


def _say(console: Console, text: str = "", style: str | None = None) -> None:
    console.print(text, highlight=False, markup=False, style=style)
