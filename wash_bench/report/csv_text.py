"""CSV files: numbers as pandas writes them, and texts that no spreadsheet takes for formulas."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

FORMULA = ("=", "+", "-", "@", "\t", "\r")


def csv_text(frame: pd.DataFrame) -> str:
    """Write a frame as CSV.

    Returns:
        The lines. A text that begins as a formula does, as a record from elsewhere may hold one,
        has an apostrophe before it, unless it is a number.
    """
    texts = frame.select_dtypes(["object", "string"]).columns
    return frame.assign(**{name: frame[name].map(_plain) for name in texts}).to_csv(
        index=False, lineterminator="\n"
    )


def _plain(value: Any) -> Any:
    if not isinstance(value, str) or not value.startswith(FORMULA):
        return value
    try:
        float(value)
    except ValueError:
        return f"'{value}"
    return value
