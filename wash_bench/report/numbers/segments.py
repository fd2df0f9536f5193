"""Loss along the segments between two members, and over the triangle that three span."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd


def barriers(rows: pd.DataFrame, bn: str = "averaged") -> pd.DataFrame:
    """The greatest rise of the loss above the straight line between two members' losses.

    Args:
        rows: the pairs' rows of ``Records.barrier``.
        bn: BatchNorm statistics, ``averaged`` or ``reestimated``.

    Returns:
        A row a training and pair: training_id, a, b and barrier, in nats; NaN where a loss on
        the way is not a number.
    """
    import pandas as pd

    rows = rows[(rows["kind"] == "pair") & (rows["bn"] == bn)].sort_values("alpha")
    found = []
    for (training, a, b), segment in rows.groupby(["training_id", "a", "b"], sort=False):
        loss, alpha = segment["loss"].to_numpy(float), segment["alpha"].to_numpy(float)
        rise = (loss - (1 - alpha) * loss[0] - alpha * loss[-1]).max()
        found.append((training, a, b, float(rise) if math.isfinite(rise) else math.nan))
    return pd.DataFrame(found, columns=["training_id", "a", "b", "barrier"])


HEIGHT = math.sqrt(3) / 2  # of a triangle with edges of length 1
CORNERS = ((0.0, 0.0), (1.0, 0.0), (0.5, HEIGHT))
STATISTICS = {"averaged": "BN averaged", "reestimated": "BN re-estimated"}
CLOSE = 1e-9


@dataclass(frozen=True)
class Map:
    """One population's triangle under one kind of BatchNorm statistics.

    Attributes:
        curve: whose it is.
        seed: of the population.
        bn: ``averaged`` or ``reestimated``.
        points: a row a network: x and y in the triangle, loss (nats), accuracy (%).
        members: the rows of the three members.
        average: the row of their average.
    """

    curve: str
    seed: int
    bn: str
    points: pd.DataFrame
    members: pd.DataFrame
    average: pd.Series

    def summary_text(self, quantity: str) -> str:
        """The members' mean and the average, as the panel says it."""
        digits = 2 if quantity == "loss" else 1
        mean = self.members[quantity].mean()
        return f"{mean:.{digits}f} → {self.average[quantity]:.{digits}f}"


def maps(points: pd.DataFrame, curves: pd.DataFrame) -> list[Map]:
    """The maps of an experiment's rows: of each curve the population with the lowest seed."""
    if points.empty or curves.empty:
        return []
    rows = points.drop(columns="seed", errors="ignore").merge(
        curves[["training_id", "curve", "seed"]], on="training_id"
    )
    found = []
    for name in dict.fromkeys(curves["curve"]):
        own = rows[rows["curve"] == name]
        own = own[own["seed"] == own["seed"].min()]
        for bn in STATISTICS:
            found += _map(name, bn, own[own["bn"] == bn])
    return found


def _map(name: str, bn: str, rows: pd.DataFrame) -> list[Map]:
    import numpy as np

    weights = rows[["weight_a", "weight_b", "weight_c"]].to_numpy(float)
    ones, zeros = np.isclose(weights, 1, atol=CLOSE), np.isclose(weights, 0, atol=CLOSE)
    corners = (ones.sum(axis=1) == 1) & (zeros.sum(axis=1) == 2)
    centre = np.isclose(weights, 1 / 3, atol=CLOSE).all(axis=1)
    if corners.sum() != 3 or centre.sum() != 1:
        return []  # a broken file: its rows were told when it was read
    placed = rows.assign(x=weights[:, 1] + weights[:, 2] / 2, y=weights[:, 2] * HEIGHT).reset_index(
        drop=True
    )
    members = placed[corners].sort_values(["y", "x"])
    return [Map(name, int(rows["seed"].iloc[0]), bn, placed, members, placed[centre].iloc[0])]


def on_grid(points: pd.DataFrame) -> np.ndarray:
    """All points, without the average where it lies between those of the grid."""
    import numpy as np

    steps = np.unique(np.round(points["y"].to_numpy(float) / HEIGHT, 6))
    gaps = np.diff(steps)
    centre = np.isclose(points["y"], HEIGHT / 3) & np.isclose(points["x"], 0.5)
    if len(gaps) and np.allclose(gaps, gaps[0], atol=1e-4):
        return np.ones(len(points), bool)  # the average is one of the grid
    return ~centre
