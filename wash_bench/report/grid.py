"""A table's entries and how they are written: numbers, marks, GitHub Markdown."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from wash_bench.report.stats import Estimate

if TYPE_CHECKING:
    import pandas as pd

MISSING = "–"
DAGGER = "†"


@dataclass
class Cell:
    """One entry of the table: ``text`` as it is printed, and how it stands to the others."""

    text: str
    best: bool = False
    tied: bool = False

    def plain(self) -> str:
        return self.text + (f" {DAGGER}" if self.tied else "")

    def markdown(self) -> str:
        text = escape(self.text)
        return (f"**{text}**" if self.best else text) + (f" {DAGGER}" if self.tied else "")


@dataclass
class Table:
    """A table of one experiment: its title, what was run, the rows, and the notes under it.

    ``intervals`` says which seeds the numbers are over.
    """

    experiment_id: str
    title: str
    caption: list[str]
    columns: list[str]
    rows: list[list[Cell]]
    intervals: str
    notes: list[str] = field(default_factory=list)

    def frame(self) -> pd.DataFrame:
        """The entries as strings."""
        import pandas as pd

        return pd.DataFrame(
            [[cell.plain() for cell in row] for row in self.rows], columns=self.columns
        )

    def markdown(self) -> str:
        """GitHub Markdown: heading, caption, table, notes as a list."""
        lines = [f"## {escape(self.title)}", ""]
        for sentence in self.caption:
            lines += [escape(sentence), ""]
        lines += [_row([escape(name) for name in self.columns])]
        lines.append(_row(["---"] + ["---:"] * (len(self.columns) - 1)))
        lines += [_row([cell.markdown() for cell in row]) for row in self.rows]
        if self.notes:
            lines += ["", *(f"- {escape(note)}" for note in self.notes)]
        return "\n".join(lines) + "\n"


def escape(text: str) -> str:
    """Text that GitHub Markdown shows as it stands, in a table or outside one."""
    text = " ".join(text.split())
    text = re.sub(r"[\\|*`<>~]", r"\\\g<0>", text)
    # Within a word an underscore is plain, and so is a bracket that no address follows.
    text = re.sub(r"(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])", r"\\_", text)
    return text.replace("](", "]\\(")


def number(value: float, digits: int) -> str:
    """A number with ``digits`` decimals, thousands set off; a dash where there is none."""
    if math.isnan(value):
        return MISSING
    return f"{value:,.{digits}f}".replace("-", "−") if math.isfinite(value) else f"{value}"


def amount(value: float) -> str:
    """Three significant digits, for quantities that span decades (values, megabytes)."""
    if math.isnan(value):
        return MISSING
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    digits = max(0, 2 - math.floor(math.log10(abs(value))))
    return number(value, min(digits, 6))


def with_interval(value: Estimate, digits: int, *, signed: bool = False) -> str:
    """``mean ± half-width``, or the mean alone where there is no interval."""
    text = number(value.mean, digits)
    if signed and value.mean > 0:
        text = "+" + text
    if value.half_width is None:
        return text
    return f"{text} ± {number(value.half_width, digits)}"


def _row(entries: list[str]) -> str:
    return "| " + " | ".join(entries) + " |"
