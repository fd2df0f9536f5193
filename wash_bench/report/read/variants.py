"""What the rows of a table and the curves of a figure are called."""

from typing import Any

import pandas as pd

from wash_bench.settings.sweep import differing, told


def name_variants(frame: pd.DataFrame, cells: list[dict[str, Any]]) -> None:
    """One method with two settings in one experiment becomes two rows of the table."""
    for _, rows in frame.groupby(["experiment_id", "method"]):
        own = [cells[row]["options"] for row in rows.index]
        names = differing(own)
        for row, options in zip(rows.index, own, strict=True):
            if text := told(options, names):
                frame.loc[row, "variant"] = f"{frame.loc[row, 'method']} ({text})"


def curves(cells: pd.DataFrame) -> pd.DataFrame:
    """Which trainings are one curve in the figures of an experiment.

    Methods that share a training (as greedy soup and the naive ensemble) have the same curve.

    Args:
        cells: the experiment's rows of the summary.

    Returns:
        A row a training with columns training_id, seed, curve (the variants' names joined) and
        method (the one that gives the curve its colour).
    """
    owner = {name: name for name in cells["variant"].unique()}
    for _, group in cells.groupby("training_id", sort=False):
        merged = {owner[name] for name in group["variant"]}
        head = min(merged, key=list(owner).index)
        owner = {name: head if old in merged else old for name, old in owner.items()}
    names: dict[str, list[str]] = {}
    for name, head in owner.items():
        names.setdefault(head, []).append(name)
    rows = cells.drop_duplicates("training_id")
    method = dict(zip(cells["variant"], cells["method"], strict=True))
    return pd.DataFrame(
        {
            "training_id": rows["training_id"].tolist(),
            "seed": rows["seed"].tolist(),
            "curve": [", ".join(names[owner[name]]) for name in rows["variant"]],
            "method": [method[names[owner[name]][-1]] for name in rows["variant"]],
        }
    )
