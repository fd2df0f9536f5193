"""``summary.csv``: a row a cell, with what it is, its settings and all that was measured."""

from __future__ import annotations

import json
from typing import Any

import pandas as pd

from wash_bench.config import DEFAULT_METHODS, TrainingConfig
from wash_bench.config.field import TRAINING, settings_of
from wash_bench.metrics import METRICS, SUMMARY
from wash_bench.report.read.columns import (
    IDENTITY,
    LATER_SETTING_COLUMNS,
    PROVENANCE,
    SETTING_COLUMNS,
)
from wash_bench.study.coupling import in_words
from wash_bench.study.sweep import differing, told

_COLUMNS = tuple(metric.key for metric in SUMMARY)
_TEXT = {metric.key for metric in METRICS.values() if metric.unit == "text"}


def summary_frame(cells: list[dict[str, Any]]) -> pd.DataFrame:
    """A row a cell, of ``read.cell``: by experiment, the six default methods first, then seed."""
    further = sorted({name for cell in cells for name in cell["summary"]} - set(_COLUMNS))
    rows = []
    for cell in cells:
        config = cell["config"]
        training = config["training"]
        rows.append(
            {
                "preset": config.get("preset", ""),
                "dataset": training.get("dataset", ""),
                "model": training.get("model", ""),
                "method": cell["method"],
                "seed": cell["seed"],
                "population": training.get("population"),
                "status": cell["status"],
                **{name: _setting(name, training) for name in SETTING_COLUMNS},
                **{name: _later(name, training) for name in LATER_SETTING_COLUMNS},
                "coupling": _coupling(config, cell["method"]),
                **{name: _plain(name, cell["summary"].get(name)) for name in (*_COLUMNS, *further)},
                "variant": cell["method"],
                "options": json.dumps(cell["options"], sort_keys=True),
                "reason": " ".join((cell.get("reason") or "").split()),
                "experiment_id": cell["experiment_id"],
                "training_id": cell["training_id"],
                "cell_id": cell["cell_id"],
            }
        )
    later = [
        name
        for name, default in LATER_SETTING_COLUMNS.items()
        if any(row[name] != default for row in rows)
    ]
    if any(row["coupling"] for row in rows):
        later.append("coupling")
    columns = [*IDENTITY, *SETTING_COLUMNS, *later, *_COLUMNS, *further, *PROVENANCE]
    frame = pd.DataFrame(rows, columns=columns)
    for name in _COLUMNS:
        if name not in _TEXT:
            frame[name] = pd.to_numeric(frame[name], errors="coerce").astype(float)
    name_variants(frame, cells)
    order = {name: place for place, name in enumerate(DEFAULT_METHODS)}
    frame["_place"] = frame["method"].map(order).fillna(len(order))
    keys = ["preset", "dataset", "model", "population", "experiment_id", "_place", "variant"]
    return (frame.sort_values([*keys, "seed", "cell_id"], kind="stable", ignore_index=True)).drop(
        columns="_place"
    )


_OF_TRAINING = {item.name for item in settings_of(TrainingConfig) if item.of("panel") == TRAINING}


def _setting(name: str, training: dict[str, Any]) -> Any:
    """A setting's value; none of how members were trained where that was elsewhere."""
    unknown = training.get("members") and (name in _OF_TRAINING or name == "augment")
    return None if unknown else training.get(name)


def _coupling(config: dict[str, Any], method: str) -> str:
    """What ``--rescale-coupling`` made of the papers' setting; empty without it."""
    record = (config.get("coupling") or {}).get(method)
    return in_words(record) if record else ""


def _later(name: str, training: dict[str, Any]) -> Any:
    """A setting of a later version; the grid of hyperparameters as the command line takes it."""
    value = training.get(name) or LATER_SETTING_COLUMNS[name]
    if isinstance(value, dict):
        return " ".join(f"{key}={','.join(f'{v:g}' for v in grid)}" for key, grid in value.items())
    if isinstance(value, list):
        return ",".join(item if isinstance(item, str) else f"{item:g}" for item in value)
    return value


def _plain(name: str, value: Any) -> Any:
    """A list (the soup's members) as text that a CSV cell can hold."""
    if isinstance(value, list | tuple):
        return " ".join(map(str, value))
    if isinstance(value, dict):
        return json.dumps(value, sort_keys=True)
    return str(value) if name in _TEXT and value is not None else value


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
