"""The barrier between two members, of every pair that was measured."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
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
