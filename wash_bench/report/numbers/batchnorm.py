"""Whether a network has BatchNorm, as its records tell."""

from __future__ import annotations

from typing import TYPE_CHECKING

from wash_bench.metrics import METRICS

if TYPE_CHECKING:
    import pandas as pd

# Measured twice: with the statistics that a network has, and with re-estimated ones.
TWICE = {key: key.replace("_bn", "", 1) for key in METRICS if "_bn_" in key}


def has_batchnorm(cells: pd.DataFrame) -> bool:
    """Whether the cells' network has BatchNorm; True where nothing tells.

    Re-estimating the statistics of a network without any gives the same network, so that records
    hold each value twice, to the last bit.

    Args:
        cells: rows of the summary, of one experiment.

    Returns:
        False, if some value was measured twice and all such pairs are equal.
    """
    # Barriers are left out where there is nothing to re-estimate.
    pairs = [(cells[key], cells[plain]) for key, plain in TWICE.items()
             if key in cells and plain in cells and "barrier" not in key]  # fmt: skip
    both = [(again, plain, again.notna() & plain.notna()) for again, plain in pairs]
    if not any(known.any() for _, _, known in both):
        return True
    return any((again[known] != plain[known]).any() for again, plain, known in both)


def without_copies(cells: pd.DataFrame) -> pd.DataFrame:
    """The cells; in experiments without BatchNorm, what was re-estimated is missing (NaN)."""
    keys = [key for key in TWICE if key in cells]
    copied = [
        rows.index
        for _, rows in cells.groupby("experiment_id", sort=False)
        if not has_batchnorm(rows)
    ]
    if not copied:
        return cells
    cells = cells.copy()
    for index in copied:
        cells.loc[index, keys] = float("nan")
    return cells
