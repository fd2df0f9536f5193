"""A table's entries and how they are written: numbers, marks, captions and notes."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from wash_bench.metrics import Metric
from wash_bench.report.numbers.stats import Estimate
from wash_bench.report.tables import markdown
from wash_bench.report.tables.markdown import escape

if TYPE_CHECKING:
    import pandas as pd

MISSING = "–"


@dataclass
class Cell:
    """One entry of a table: ``text`` as it is printed, and what is marked of it.

    Attributes:
        text: the number with its interval, or a name.
        mark: letters, or a star, that say how it compares; empty without.
        bold: whether it is set in bold, as what was chosen.
    """

    text: str
    mark: str = ""
    bold: bool = False

    def plain(self) -> str:
        return f"{self.text} {self.mark}".rstrip()

    def markdown(self) -> str:
        text = escape(self.text)
        return f"{f'**{text}**' if self.bold else text} {escape(self.mark)}".rstrip()


@dataclass
class Table:
    """A table: its title, what was run, the rows, and the notes under it.

    Attributes:
        title: what stands above all.
        caption: sentences above the table.
        columns: the headings.
        rows: the entries.
        notes: sentences below the table.
        keys: of the main table, what a column holds: ``method``, then keys of ``metrics.METRICS``.
        experiment_id: of the main table's experiment.
        intervals: which seeds the main table's numbers are over.
        chosen: whether its columns were asked for one by one.
    """

    title: str
    caption: list[str]
    columns: list[str]
    rows: list[list[Cell]]
    notes: list[str] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)
    experiment_id: str = ""
    intervals: str = ""
    chosen: bool = False

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
        lines.append(self.body())
        if self.notes:
            lines += ["", *(f"- {escape(note)}" for note in self.notes)]
        return "\n".join(lines) + "\n"

    def body(self) -> str:
        """The rows under their headings in GitHub Markdown."""
        rows = [[cell.markdown() for cell in row] for row in self.rows]
        return markdown.table([escape(name) for name in self.columns], rows)


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


def written(value: Estimate, metric: Metric, digits: int | None = None) -> str:
    """A metric over seeds as tables show it: with its interval, unless it is a cost."""
    if value.n == 0:
        return MISSING
    if metric.digits is None:
        return amount(value.mean / metric.per) + "×" * (metric.unit == "×")
    if metric.unit == "s":
        return number(value.mean, metric.digits)
    return with_interval(value, metric.digits if digits is None else digits, ends=metric.ends)


def with_interval(
    value: Estimate,
    digits: int,
    *,
    signed: bool = False,
    ends: tuple[float, float] = (-math.inf, math.inf),
) -> str:
    """A mean with its interval, in the unit of the value.

    Returns:
        ``mean ± half-width``; ``mean +above/−below`` where ``ends`` cut the interval off; the
        values themselves where there is no interval.
    """

    def told(one: float) -> str:
        return f"{'+' if signed and one > 0 else ''}{number(one, digits)}"

    if value.n == 2 and math.isfinite(value.mean):
        return ", ".join(map(told, value.values))
    text = told(value.mean)
    if value.half_width is None:
        return text
    below, above = value.bar(ends)
    if below == above:
        return f"{text} ± {number(above, digits)}"
    return f"{text} +{number(above, digits)}/−{number(below, digits)}"
