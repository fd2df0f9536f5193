"""Records with a map of a simplex, for the tests of figures."""

from __future__ import annotations

import itertools
import json
import math

import pandas as pd

from tests.support.records import write_cell
from wash_bench.config import fingerprint
from wash_bench.evaluate.simplex import barycentric


def with_triangle(out, points=4, method="wash", seed=0, hole=False, corrupted=False):
    """A record with a map: loss and accuracy are known functions of the weights."""
    path = write_cell(out, method, seed)
    record = json.loads(path.read_text())
    (folder,) = (out / "trainings").glob(f"{record['training_id']}")
    old = fingerprint(record["config"]["evaluation"])
    record["config"]["evaluation"]["simplex_points"] = points
    if corrupted:
        record["config"]["evaluation"]["corruptions"] = ["fog", "snow"]
    path.write_text(json.dumps(record))
    new = fingerprint(record["config"]["evaluation"])
    (folder / f"barrier-{old}.csv").rename(folder / f"barrier-{new}.csv")
    rows = []
    for weights, bn in itertools.product(barycentric(points), ("averaged", "reestimated")):
        a, b, c = weights
        rows.append(
            {"a": 0, "b": 1, "c": 2, "weight_a": a, "weight_b": b, "weight_c": c, "bn": bn,
             "split": "test", "images": 100, "loss": 1 + a * b + b * c + 2 * c,
             "accuracy": 90 - 10 * b - seed}
        )  # fmt: skip
    table = pd.DataFrame(rows)
    if hole:
        table.loc[(table["weight_a"] == 0) & (table["weight_b"] == 0), "loss"] = math.inf
    table.to_csv(folder / f"simplex-{new}.csv", index=False)
    if corrupted:
        kinds = itertools.product(("fog", "snow"), (1, 3, 5), ("member", "ensemble", "average"))
        points = [
            {"corruption": name, "severity": severity, "network": network, "images": 100,
             "loss": 1.0, "accuracy": 90 - 5 * severity}
            for name, severity, network in kinds
        ]  # fmt: skip
        pd.DataFrame(points).to_csv(folder / f"corruption-{new}.csv", index=False)
