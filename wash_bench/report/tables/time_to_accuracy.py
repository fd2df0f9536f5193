"""How long a training takes until its networks reach a target accuracy on the validation data."""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING, Any

from wash_bench.report.numbers.stats import estimate
from wash_bench.report.tables import caption
from wash_bench.report.tables.table import MISSING, Column, Table, build_table, format_fixed

if TYPE_CHECKING:
    import pandas as pd

    from wash_bench.report.read.frames import Records

# What an event's accuracy is of; all but the members' own is logged with --merge-every.
NETWORKS = {
    "val_acc": "members",
    "ensemble_val_acc": "ensemble",
    "average_val_acc": "averaged",
    "average_bn_val_acc": "averaged, BN re-est.",
}
COLUMNS = ("experiment_id", "curve", "seed", "training_id", "network", "target")
COLUMNS += ("epoch", "step", "seconds")


def reached(records: Records, target: float) -> pd.DataFrame:
    """When each training first reached a target.

    Args:
        records: finished cells and their events.
        target: per cent.

    Returns:
        A row a training and network with the columns ``COLUMNS``: of ``members``, the epoch in
        which their mean accuracy is at the target or above. Epoch, step and seconds are NaN where
        it never was; seconds are steps times the training's mean seconds a step.
    """
    import pandas as pd

    from wash_bench.report.read.variants import curves

    events = records.events[records.events["metric"].isin(NETWORKS)]
    means = events.groupby(["training_id", "metric", "epoch", "step"], as_index=False)["value"]
    means = means.mean()
    found = []
    for experiment_id, cells in records.experiments():
        cells = cells[cells["status"] == "finished"]
        if cells.empty:
            continue
        pace = dict(zip(cells["training_id"], cells["train_seconds"] / cells["steps"], strict=True))
        for row in curves(cells).to_dict("records"):
            own = means[means["training_id"] == row["training_id"]]
            for metric, network in NETWORKS.items():
                points = own[own["metric"] == metric].sort_values("epoch")
                if points.empty:
                    continue
                there = points[points["value"] >= target]
                epoch, step = there.iloc[0][["epoch", "step"]] if len(there) else (math.nan,) * 2
                seconds = step * pace[row["training_id"]]
                head = (
                    experiment_id,
                    row["curve"],
                    row["seed"],
                    row["training_id"],
                    network,
                    target,
                )
                found.append((*head, epoch, step, seconds))
    return pd.DataFrame(found, columns=list(COLUMNS))


def target_tables(records: Records) -> list[Table]:
    """A table for each experiment whose accuracy over the training is known.

    Returns:
        Tables with a row a curve and entries ``steps (seconds)``, means over the seeds; where not
        every seed got there, how many did, since a mean over those alone would flatter.
    """
    if records.options.target is None:
        return []
    target = records.options.target
    found = reached(records, target)
    tables = []
    for experiment_id, cells in records.experiments():
        rows = found[found["experiment_id"] == experiment_id]
        if rows.empty:
            continue
        shown = [name for name in NETWORKS.values() if (rows["network"] == name).any()]
        columns: list[Column[Any]] = [Column("method", lambda row: str(row[0]), right=False)]
        columns += [Column(name, partial(_entry, network=name)) for name in shown]
        table = build_table(
            f"Steps to {target:g} % on the validation images: {caption.title(cells)}",
            rows.groupby("curve", sort=False),
            columns,
            caption=[
                "Optimizer steps of a member, and seconds of training, until the accuracy first "
                f"stood at {target:g} % or above; means over the seeds. It was looked at "
                "after whole epochs, at those of --eval-every and --merge-every."
            ],
            experiment_id=experiment_id,
        )
        tables.append(table)
    return tables


def _entry(curve: tuple[Any, pd.DataFrame], network: str) -> str:
    _, rows = curve
    own = rows[rows["network"] == network]
    if own.empty:
        return MISSING
    there = int(own["step"].notna().sum())
    if there < len(own):
        return f"{there} of {len(own)} seeds" if len(own) > 1 else "not reached"
    seconds = estimate(own["seconds"]).mean
    told = "" if math.isnan(seconds) else f" ({format_fixed(seconds, 1)} s)"
    return f"{format_fixed(estimate(own['step']).mean, 0)}{told}"
