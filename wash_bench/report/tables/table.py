"""The table builder: every table of reports, tunings, papers and comparisons is made here.

A table is rows of any objects, and columns that say what an entry is. A layout is a list of
columns: those of ``metrics.METRICS`` come from ``metric_column``, others are a ``Column`` each::

    columns = [
        Column("method", lambda line: line.label, right=False),
        metric_column("method_acc", lambda line: line.estimate, mark=lambda line: line.letters),
        Column("published", lambda line: line.published),
    ]
    table = build_table(title, lines, columns, caption=sentences, notes=notes)
    table.markdown()  # with title, caption and notes; body() is the rows alone

``mark`` gives the letters or the star beside an entry, ``bold`` says which entry was chosen.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from wash_bench.metrics import METRICS, Metric
from wash_bench.report.numbers.stats import Estimate
from wash_bench.report.tables import markdown
from wash_bench.report.tables.markdown import escape

if TYPE_CHECKING:
    import pandas as pd

MISSING = "–"
R = TypeVar("R")


@dataclass
class TableCell:
    """One entry of a table: ``text`` as it is printed, and how it is marked.

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
        title: the heading above the table.
        caption: sentences above the table.
        columns: the headings.
        rows: the entries.
        notes: sentences below the table.
        align: ``l`` or ``r`` for each column; empty: all but the first to the right.
        keys: of the main table, what a column holds: ``method``, then keys of ``metrics.METRICS``.
        experiment_id: of the main table's experiment.
        intervals: which seeds the main table's numbers are over.
        chosen: whether its columns were asked for one by one.
        answer: what the numbers say, in a sentence or two; may be empty.
    """

    title: str
    caption: list[str]
    columns: list[str]
    rows: list[list[TableCell]]
    notes: list[str] = field(default_factory=list)
    align: str = ""
    keys: list[str] = field(default_factory=list)
    experiment_id: str = ""
    intervals: str = ""
    chosen: bool = False
    answer: str = ""

    def frame(self) -> pd.DataFrame:
        """Return the entries as strings."""
        import pandas as pd

        return pd.DataFrame(
            [[cell.plain() for cell in row] for row in self.rows], columns=self.columns
        )

    def markdown(self, level: int = 2) -> str:
        """Write GitHub Markdown: heading, caption, table, notes as a list."""
        lines = [f"{'#' * level} {escape(self.title)}", ""]
        if self.answer:
            lines += [f"**{escape(self.answer)}**", ""]
        for sentence in self.caption:
            lines += [escape(sentence), ""]
        lines.append(self.body())
        if self.notes:
            lines += ["", *(f"- {escape(note)}" for note in self.notes)]
        return "\n".join(lines) + "\n"

    def body(self) -> str:
        """Write the rows under their headings in GitHub Markdown."""
        rows = [[cell.markdown() for cell in row] for row in self.rows]
        return markdown.table([escape(name) for name in self.columns], rows, self.align)


@dataclass(frozen=True)
class Column(Generic[R]):
    """A column: its heading, and the text, mark and weight of a row's entry.

    Attributes:
        heading: the column's heading.
        text: gives the entry of a row.
        mark: gives its letters or star.
        bold: says whether it is bold.
        right: whether entries stand to the right, as numbers do.
    """

    heading: str
    text: Callable[[R], str]
    mark: Callable[[R], str] = lambda row: ""
    bold: Callable[[R], bool] = lambda row: False
    right: bool = True

    def cell(self, row: R) -> TableCell:
        return TableCell(self.text(row), self.mark(row), self.bold(row))


def metric_column(
    key: str, value: Callable[[R], Estimate], *, digits: int | None = None, **more: Any
) -> Column[R]:
    """Make the column of a metric.

    Args:
        key: of ``metrics.METRICS``, which gives heading, unit and digits.
        value: gives a row's estimate over the seeds.
        digits: in place of the metric's.
        **more: ``mark`` and ``bold`` of ``Column``.

    Returns:
        The column.
    """
    metric = METRICS[key]
    return Column(metric.heading, lambda row: format_estimate(value(row), metric, digits), **more)


def build_table(
    title: str,
    rows: Iterable[R],
    columns: Sequence[Column[R]],
    *,
    caption: Iterable[str] = (),
    notes: Iterable[str] = (),
    **about: Any,
) -> Table:
    """Build a table of rows and columns; ``about`` holds further fields of ``Table``."""
    return Table(
        title,
        list(caption),
        [column.heading for column in columns],
        [[column.cell(row) for column in columns] for row in rows],
        list(notes),
        "".join("r" if column.right else "l" for column in columns),
        **about,
    )


def format_fixed(value: float, digits: int) -> str:
    """Write a number with ``digits`` decimals, thousands set off; a dash where there is none."""
    if math.isnan(value):
        return MISSING
    return f"{value:,.{digits}f}".replace("-", "−") if math.isfinite(value) else f"{value}"


def format_sig(value: float) -> str:
    """Write three significant digits, for quantities that span decades (values, megabytes)."""
    if math.isnan(value):
        return MISSING
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    digits = max(0, 2 - math.floor(math.log10(abs(value))))
    return format_fixed(value, min(digits, 6))


def format_estimate(value: Estimate, metric: Metric, digits: int | None = None) -> str:
    """Write a metric over seeds as tables show it: with its interval, unless it is a cost."""
    if value.n == 0:
        return MISSING
    if metric.digits is None:
        return format_sig(value.mean / metric.per) + "×" * (metric.unit == "×")
    if metric.unit == "s":
        return format_fixed(value.mean, metric.digits)
    return with_interval(value, metric.digits if digits is None else digits, ends=metric.ends)


def with_interval(
    value: Estimate,
    digits: int,
    *,
    signed: bool = False,
    ends: tuple[float, float] = (-math.inf, math.inf),
) -> str:
    """Write a mean with its interval, in the unit of the value.

    Returns:
        ``mean ± half-width``; ``mean +above/−below`` where ``ends`` cut the interval off; the
        values themselves where there is no interval.
    """

    def signed_text(one: float) -> str:
        return f"{'+' if signed and one > 0 else ''}{format_fixed(one, digits)}"

    if value.n == 2 and math.isfinite(value.mean):
        return ", ".join(map(signed_text, value.values))
    text = signed_text(value.mean)
    if value.half_width is None:
        return text
    below, above = value.bar(ends)
    if below == above:
        return f"{text} ± {format_fixed(above, digits)}"
    return f"{text} +{format_fixed(above, digits)}/−{format_fixed(below, digits)}"
