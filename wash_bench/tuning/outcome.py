"""From the records of a run folder to what each method's settings are worth."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from wash_bench.record.store import Store
from wash_bench.report.numbers.stats import estimate
from wash_bench.runner.experiment import tasks_of
from wash_bench.settings.sweep import Round, flattened
from wash_bench.tuning.choice import CHOSEN_BY, Tried, Tuned

BESIDE = ("member_val_acc_mean", "consensus_relative", "sent_values_per_step")
"""Metrics that stand beside in the table, and choose nothing."""


def outcome_of(rounds: Sequence[Round], out: Path) -> list[Tuned]:
    """What the run folder holds of each method's settings, in the order of the rounds."""
    store = Store(out)
    tried: dict[str, list[Tried]] = {}
    failed: dict[str, list[str]] = {}
    for config, entries in rounds:
        for entry in entries:
            options = config.set.get(entry.name, {})
            records = _records(store, (config, [entry]))
            for record in records:
                if record["status"] == "failed":
                    reason = f"seed {record['seed']}: {record['reason']}"
                    failed.setdefault(entry.name, []).append(reason)
            found = [record for record in records if record["status"] != "failed"]
            tried.setdefault(entry.name, []).append(_tried(flattened(options), found))
    return [
        Tuned(method, tuple(settings), tuple(failed.get(method, ())))
        for method, settings in tried.items()
    ]


def environments_of(rounds: Sequence[Round], out: Path) -> list[dict[str, Any]]:
    """Where the trainings ran, one record each."""
    store = Store(out)
    tasks = [task for round_ in rounds for task in tasks_of(*round_)]
    ids = dict.fromkeys(task.training_id for task in tasks)
    found = [store.training(training_id).environment_so_far() for training_id in ids]
    return [environment for environment in found if environment]


def _records(store: Store, round_: Round) -> list[dict[str, Any]]:
    cells = [cell for task in tasks_of(*round_) for cell in task.cells]
    return [record for cell in cells if (record := store.cell(cell.cell_id)) is not None]


def _tried(options: dict[str, Any], records: Sequence[dict[str, Any]]) -> Tried:
    by_seed = {record["seed"]: record["summary"].get(CHOSEN_BY) for record in records}
    known = {seed: v for seed, v in by_seed.items() if v is not None and math.isfinite(v)}
    means = {key: estimate(r["summary"].get(key) for r in records).mean for key in BESIDE}
    return Tried(options, known, means)
