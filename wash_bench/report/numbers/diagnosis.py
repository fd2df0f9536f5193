"""Diagnose networks from their records: BatchNorm, and why an average falls below its members."""

from __future__ import annotations

from collections.abc import Mapping
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


# A loss barrier above so many nats is said to part basins.
BASIN = 0.1
# Below this cosine between their weights, members have no more in common than two random starts.
APART = 0.1


def diagnose_drop(measured: Mapping[str, float], margin: float) -> str:
    """What is said of an average more than ``margin`` points below its members' mean, else "".

    Args:
        measured: metrics by key; ``weight_cosine`` may be missing, and NaN stands for unknown.
        margin: points of accuracy.

    Returns:
        One clause, without a capital and a full stop.
    """
    average, members = measured["average_acc"], measured["member_acc_mean"]
    if not average < members - margin:
        return ""
    barrier, mended = measured["barrier_loss_max"], measured["average_bn_acc"]
    cosine = measured.get("weight_cosine", float("nan"))
    text = f"the average has {average:.1f} % and the members {members:.1f} %"
    lagging = mended - average > (measured["member_bn_acc_mean"] - average) / 2
    if lagging:
        text = (
            f"{text}; re-estimating the BatchNorm statistics brings the average to"
            f" {mended:.1f} %, so most of the fall is theirs and not the weights'"
        )
    elif barrier > BASIN:
        text = (
            f"members share no basin: the loss barrier between members is {barrier:.1f} nats,"
            f" so the average has {average:.1f} %"
        )
    if abs(cosine) < APART and (lagging or barrier > BASIN):
        text += (
            f"; the members' weights have a cosine of {abs(cosine):.2f}, as networks that started"
            " apart"
        )
    return text
