"""How long a training takes until its networks reach a target accuracy on the validation data."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from wash_bench.metrics import heading_of
from wash_bench.report.numbers.stats import estimate
from wash_bench.report.tables import caption
from wash_bench.report.tables.table import MISSING, Column, Table, build_table, format_fixed

if TYPE_CHECKING:
    import pandas as pd

    from wash_bench.report.read.frames import Records

# What an event's accuracy is of; all but the members' own is logged with --eval-average-every.
NETWORKS = {
    "val_acc": heading_of("member"),
    "ensemble_val_acc": heading_of("ensemble"),
    "average_val_acc": heading_of("average"),
    "average_bn_val_acc": heading_of("average_bn"),
}
AVERAGED, NOT_WATCHED = NETWORKS["average_val_acc"], "not watched"
COLUMNS = ("experiment_id", "curve", "seed", "training_id", "network", "target")
COLUMNS += ("epoch", "step", "seconds")


def reached(records: Records, target: float) -> pd.DataFrame:
    """Find when each training first reached a target.

    Args:
        records: finished cells and their events.
        target: per cent.

    Returns:
        A row a training and network with the columns ``COLUMNS``: of ``members``, the epoch in
        which their mean accuracy is at the target or above. Epoch, step and seconds are NaN where
        it never was.
    """
    import pandas as pd

    from wash_bench.report.read.summary import curves

    events = records.events[records.events["metric"].isin(NETWORKS)]
    keys = ["training_id", "metric", "epoch", "step"]
    means = events.groupby(keys, as_index=False)["value"].mean()
    found = []
    for experiment_id, cells in records.experiments():
        cells = cells[cells["status"] == "finished"]
        trained = cells.drop_duplicates("training_id").set_index("training_id")
        for row in curves(cells).to_dict("records") if len(cells) else ():
            training = row["training_id"]
            own = means[means["training_id"] == training]
            seconds = _seconds(records.events, trained.loc[training])
            for metric, network in NETWORKS.items():
                points = own[own["metric"] == metric].sort_values("epoch")
                if points.empty:
                    continue
                there = points[points["value"] >= target]
                epoch, step = there.iloc[0][["epoch", "step"]] if len(there) else (math.nan,) * 2
                head = (experiment_id, row["curve"], row["seed"], training, network, target)
                found.append((*head, epoch, step, seconds(step)))
    return pd.DataFrame(found, columns=list(COLUMNS))


def _seconds(events: pd.DataFrame, cell: pd.Series) -> Callable[[float], float]:
    """Return the seconds of training up to a step, of one training.

    Steps count by the members that take them, as losses are logged: where one member trains first,
    as with DART, its steps take a part of the others' time.
    """
    import numpy as np

    losses = events[(events["training_id"] == cell.name) & (events["metric"] == "train_loss")]
    active = losses.groupby("step")["member"].nunique()
    ranks = float(cell.get("ranks", 1) or 1)
    ranks = 1.0 if math.isnan(ranks) else ranks
    steps = np.array([0.0, *active.index])
    if len(active) and steps[-1] == cell["steps"]:
        work = np.cumsum([0.0, *np.diff(steps) * np.ceil(active / ranks)])
    else:
        steps = work = np.array([0.0, cell["steps"]])  # nothing says who trained
    pace = cell["train_seconds"] / work[-1]
    return lambda step: float(np.interp(step, steps, work)) * pace


def target_tables(records: Records) -> list[Table]:
    """Build a table for each experiment whose accuracy over the training is known.

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
        visible = [name for name in NETWORKS.values() if (rows["network"] == name).any()]
        if AVERAGED not in visible and cells["population"].max() > 1:
            visible.append(AVERAGED)
        columns: list[Column[Any]] = [Column("method", lambda row: str(row[0]), right=False)]
        columns += [Column(name, partial(_entry, network=name)) for name in visible]
        table = build_table(
            f"Steps to {target:g} % on the validation images: {caption.title(records, cells)}",
            rows.groupby("curve", sort=False),
            columns,
            caption=[
                "Optimizer steps of a member, and seconds of training, until the accuracy first "
                f"was at {target:g} % or above; means over the seeds. The members are validated at "
                "the epochs of --eval-every, average and ensemble at those of --eval-average-every."
                " Where an average was not watched, nothing is known of it."
            ],
            experiment_id=experiment_id,
        )
        tables.append(table)
    return tables


def _entry(curve: tuple[Any, pd.DataFrame], network: str) -> str:
    _, rows = curve
    own = rows[rows["network"] == network]
    if own.empty:
        return NOT_WATCHED if network == AVERAGED else MISSING
    there = int(own["step"].notna().sum())
    if there < len(own):
        return f"{there} of {len(own)} seeds" if len(own) > 1 else "not reached"
    seconds = estimate(own["seconds"]).mean
    took = "" if math.isnan(seconds) else f" ({format_fixed(seconds, 1)} s)"
    return f"{format_fixed(estimate(own['step']).mean, 0)}{took}"
