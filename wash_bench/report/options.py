"""What a report is asked for."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from wash_bench.errors import UsageError, nearest
from wash_bench.metrics import MAIN_TABLE, METRICS

LAYOUTS = ("main", "methods")


@dataclass(frozen=True)
class ReportOptions:
    """The options of a report; a UsageError where one cannot be.

    Attributes:
        baseline: the method, or variant of one, that the tables compare every row with; or empty.
        target: accuracy in per cent, of which a table says when it was reached; or None.
        columns: keys of ``metrics.METRICS`` that the main table has; empty for the usual ones.
        methods: those that the report is of; empty for all that have records.
        margin: points of accuracy within which two networks count as equivalent; or None.
        layout: ``main``, or ``methods`` for the compact table of all methods besides.
        figures: names of ``figures.catalogue.FIGURES`` to draw; None for all.
        parquet: whether tables are written as Parquet too.
        pdf: whether figures are written as PDF too.
        paper: of ``style.PAPERS``: widths and fonts of the figures and of table.tex.
    """

    baseline: str = ""
    target: float | None = None
    columns: Sequence[str] = ()
    methods: Sequence[str] = ()
    margin: float | None = None
    layout: str = LAYOUTS[0]
    figures: Collection[str] | None = None
    parquet: bool = False
    pdf: bool = False
    paper: str = "plain"

    def __post_init__(self) -> None:
        if self.target is not None and not 0 < self.target <= 100:
            raise UsageError(
                f"--target {self.target:g}: an accuracy in per cent, above 0 and at most 100"
            )
        if self.margin is not None and not 0 < self.margin < 100:
            raise UsageError(
                f"--margin {self.margin:g}: points of accuracy, above 0 and below 100, as 0.3"
            )
        if self.layout not in LAYOUTS:
            raise UsageError(f"--layout {self.layout}: {nearest(self.layout, LAYOUTS)}")

    @property
    def table_columns(self) -> Sequence[str]:
        """The columns of the main table, those that nothing was recorded of included."""
        if not self.columns:
            return MAIN_TABLE
        extra = self.baseline and "less_baseline" not in self.columns
        return [*self.columns, *(["less_baseline"] if extra else [])]

    @property
    def formats(self) -> tuple[str, ...]:
        """The endings of the figures' files."""
        return ("png", "svg", "pdf") if self.pdf else ("png", "svg")


def parse_columns(text: str) -> tuple[str, ...]:
    """Split columns at commas; a UsageError names one that does not exist."""
    known = [key for key, metric in METRICS.items() if metric.unit != "text" and "NAME" not in key]
    words = [word.strip() for word in text.split(",") if word.strip()]
    for word in words:
        if word not in known:
            raise UsageError(f"--columns {word}: {nearest(word, known)} (columns of summary.csv)")
    if len(set(words)) < len(words):
        raise UsageError(f"--columns {text}: a column is given twice")
    return tuple(words)
