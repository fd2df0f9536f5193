"""What a report is asked to show besides its tables and figures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from wash_bench.errors import UsageError, nearest
from wash_bench.metrics import MAIN_TABLE, METRICS

LAYOUTS = ("main", "methods")


@dataclass(frozen=True)
class Shown:
    """Choices of the reader's.

    Attributes:
        baseline: the method, or variant of one, that the tables compare every row with; or empty.
        target: accuracy in per cent, of which is told when it was reached; or None.
        columns: keys of ``metrics.METRICS`` that the main table has; empty for the usual ones.
        layout: ``main``, or ``methods`` for the compact table of all methods besides.
        margin: points of accuracy within which two networks count as equivalent; or None.
    """

    baseline: str = ""
    target: float | None = None
    columns: Sequence[str] = ()
    margin: float | None = None
    layout: str = LAYOUTS[0]


def parse_columns(text: str) -> tuple[str, ...]:
    """Columns separated by commas; a UsageError names one that there is not."""
    known = [key for key, metric in METRICS.items() if metric.unit != "text" and "NAME" not in key]
    words = [word.strip() for word in text.split(",") if word.strip()]
    for word in words:
        if word not in known:
            raise UsageError(f"--columns {word}: {nearest(word, known)} (columns of summary.csv)")
    if len(set(words)) < len(words):
        raise UsageError(f"--columns {text}: a column is given twice")
    return tuple(words)


def columns_of(shown: Shown) -> Sequence[str]:
    """The columns of the main table, those that nothing was recorded of included."""
    if not shown.columns:
        return MAIN_TABLE
    extra = ["less_baseline"] if shown.baseline and "less_baseline" not in shown.columns else []
    return [*shown.columns, *extra]


def check_layout(layout: str) -> None:
    """Refuse, with a UsageError, a layout that there is not."""
    if layout not in LAYOUTS:
        raise UsageError(f"--layout {layout}: {nearest(layout, LAYOUTS)}")


def check_margin(margin: float | None) -> None:
    """Refuse, with a UsageError, what is no margin in points of accuracy."""
    if margin is not None and not 0 < margin < 100:
        raise UsageError(f"--margin {margin:g}: points of accuracy, above 0 and below 100, as 0.3")
