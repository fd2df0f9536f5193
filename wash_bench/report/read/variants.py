"""What the rows of a table and the curves of a figure are called."""

import json
from typing import Any

import pandas as pd

from wash_bench.plugins.options import as_typed
from wash_bench.settings.sweep import flattened


def name_variants(frame: pd.DataFrame, cells: list[dict[str, Any]]) -> None:
    """One method with two settings in one experiment becomes two rows of the table."""
    options = [flattened(cell["options"]) for cell in cells]
    for _, rows in frame.groupby(["experiment_id", "method"]):
        own = [options[row] for row in rows.index]
        differing = sorted(
            key
            for key in {key for option in own for key in option}
            if len({json.dumps(option.get(key), sort_keys=True) for option in own}) > 1
        )
        for row, option in zip(rows.index, own, strict=True):
            if differing:
                told = ", ".join(f"{key}={as_typed(option.get(key))}" for key in differing)
                frame.loc[row, "variant"] = f"{frame.loc[row, 'method']} ({told})"


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
