"""From the records of a run folder to what each method's settings are worth."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from wash_bench.record.store import Store
from wash_bench.report.numbers.stats import estimate
from wash_bench.settings.cells import Cell, MethodSpec
from wash_bench.settings.sweep import flattened
from wash_bench.tuning.choice import CHOSEN_BY, Tried, Tuned

BESIDE = ("member_val_acc_mean", "consensus_relative", "sent_values_per_step")
"""Metrics that stand beside in the table, and choose nothing."""


def outcome_of(cells: Sequence[Cell], out: Path) -> list[Tuned]:
    """What the run folder holds of each method's settings, in the order of the cells."""
    store = Store(out)
    records: dict[str, dict[int, tuple[MethodSpec, list[dict[str, Any]]]]] = {}
    for cell in cells:
        own = records.setdefault(cell.method, {}).setdefault(id(cell.spec), (cell.spec, []))
        if (record := store.cell(cell.cell_id)) is not None:
            own[1].append(record)
    found = []
    for method, settings in records.items():
        tried, failed = [], []
        for spec, of_spec in settings.values():
            bad = [record for record in of_spec if record["status"] == "failed"]
            failed += [f"seed {record['seed']}: {record['reason']}" for record in bad]
            finished = [record for record in of_spec if record["status"] != "failed"]
            tried.append(_tried(flattened(spec.options), finished))
        found.append(Tuned(method, tuple(tried), tuple(failed)))
    return found


def environments_of(cells: Sequence[Cell], out: Path) -> list[dict[str, Any]]:
    """Where the trainings ran, one record each."""
    store = Store(out)
    ids = dict.fromkeys(cell.training_id for cell in cells)
    found = [store.training(training_id).environment_so_far() for training_id in ids]
    return [environment for environment in found if environment]


def _tried(options: dict[str, Any], records: Sequence[dict[str, Any]]) -> Tried:
    by_seed = {record["seed"]: record["summary"].get(CHOSEN_BY) for record in records}
    known = {seed: v for seed, v in by_seed.items() if v is not None and math.isfinite(v)}
    means = {key: estimate(r["summary"].get(key) for r in records).mean for key in BESIDE}
    return Tried(options, known, means)
