"""Records as the runner leaves them, written without training anything."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np

from wash_bench.config import EvaluationConfig, RunConfig, TrainingConfig, fingerprint

# mean of members, ensemble, average, average with BN re-estimated, barrier in nats, distance to
# consensus, values sent a step and coordinate.
FACTS = {
    "wash": (86.5, 88.3, 88.4, 89.9, 0.02, 0.25, 0.0147),
    "wash-opt": (85.9, 88.2, 88.0, 89.6, 0.03, 0.23, 0.0294),
    "papa": (89.1, 89.4, 89.1, 90.4, 0.005, 0.05, 0.1),
    "dart": (88.2, 88.3, 88.2, 89.9, 0.01, 0.1, 0.0067),
    "greedy-soup": (87.9, 88.7, 10.0, 14.9, 2.13, 0.71, 0.0),
    "naive-ensemble": (87.9, 88.7, 10.0, 14.9, 2.13, 0.71, 0.0),
}
DELIVERED = {"naive-ensemble": "ensemble", "greedy-soup": "greedy"}  # of others the average
PARAMETERS, STEPS = 373_434, 1496


def config_of(method: str, seed: int, **training) -> dict:
    settings = {"dataset": "fashion-mini", "population": 3, "epochs": 8, "init": "shared"}
    settings |= training
    return RunConfig(
        preset="fashion-mini",
        methods=(method,),
        seeds=(seed,),
        training=TrainingConfig(**settings),
        evaluation=EvaluationConfig(barrier_points=11),
    ).model_dump(mode="json")


def write_cell(
    out: Path,
    method: str,
    seed: int,
    *,
    status: str = "finished",
    reason: str | None = None,
    options: dict | None = None,
    summary: dict | None = None,
    **training,
) -> Path:
    """One record as the runner leaves it; accuracies follow FACTS with noise of the seed."""
    config = config_of(method, seed, **training)
    experiment_id = f"test_resnet-fashion_mini-n3-{fingerprint(config['training'])}"
    options = {"p": 0.05} if options is None and method.startswith("wash") else options or {}
    rule = "independent" if method in ("greedy-soup", "naive-ensemble") else method
    training_id = f"{rule}-s{seed}-{fingerprint([config['training'], options])}"
    cell_id = f"{method}-s{seed}-{fingerprint([config['training'], options])}"
    noise = np.random.default_rng(seed).normal(0, 0.3)
    members, ensemble, average, average_bn, barrier, distance, sent = FACTS.get(
        method, FACTS["wash"]
    )
    total = sent * PARAMETERS * STEPS
    values = {
        "member_acc_mean": members + noise,
        "member_acc_min": members + noise - 0.7,
        "member_acc_max": members + noise + 0.6,
        "ensemble_acc": ensemble + noise + 0.05 * seed,
        "average_acc": average + noise,
        "average_bn_acc": average_bn + noise,
        "member_bn_acc_mean": members + 1 + noise,
        "ensemble_bn_acc": ensemble + 1 + noise,
        "greedy_acc": max(members, average) + noise,
        "greedy_size": 1 + 2 * (average > 50),
        "greedy_members": [0, 1, 2] if average > 50 else [seed % 3],
        "method_predictor": (predictor := DELIVERED.get(method, "average")),
        "method_networks": 3 if predictor == "ensemble" else 1,
        "sent_values_per_step": sent * PARAMETERS,
        "sent_values_total": total,
        "sent_bytes_total": 4 * total,
        "wire_bytes_total": 5 * total,
        "barrier_loss_max": barrier + 0.01 * seed,
        "barrier_bn_loss_max": barrier / 2,
        "consensus_distance": 20 * distance,
        "consensus_relative": distance,
        "parameters": PARAMETERS,
        "steps": STEPS,
        "train_seconds": 41.5 + seed,
    }
    delivered = (values | (summary or {})).get(f"{predictor}_acc")
    if isinstance(delivered, float):
        values |= {"method_acc": delivered, "method_nll": (100 - delivered) / 20}
    record = {
        "schema": 1,
        "cell_id": cell_id,
        "training_id": training_id,
        "experiment_id": experiment_id,
        "method": method,
        "seed": seed,
        "status": status,
        "reason": reason,
        "config": config,
        "options": options,
        "summary": (values if status == "finished" else {}) | (summary or {}),
        "extra": {},
    }
    path = out / "cells" / f"{cell_id}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(record))
    write_training(out / "trainings" / training_id, config, method, seed, values)
    return path


def write_training(folder: Path, config: dict, method: str, seed: int, values: dict) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    epochs, n = config["training"]["epochs"], config["training"]["population"]
    draw = np.random.default_rng(seed)
    (folder / "status.json").write_text('{"status": "finished", "reason": null}')
    (folder / "environment.json").write_text(
        json.dumps({"cpu": "Test CPU", "cpu_cores": 2, "torch": "2.9.0", "device": "cpu"})
    )
    lines = []
    for epoch in range(1, epochs + 1):
        step = STEPS * epoch // epochs
        for member in range(n):
            progress = 1 - math.exp(-3 * epoch / epochs)
            for metric, value in (
                ("val_acc", values["member_acc_mean"] * progress + draw.normal(0, 0.5)),
                ("train_loss", 2.3 * (1 - progress) + 0.3 + draw.normal(0, 0.02)),
            ):
                lines.append((step, epoch, member, metric, value))
        distance = values["consensus_relative"] * epoch / epochs
        distance = 0.0 if method == "dart" and epoch % 4 == 0 else distance
        lines.append((step, epoch, None, "consensus_relative", distance))
        lines.append((step, epoch, None, "consensus_layer/conv1.weight", distance / 2))
        sent = values["sent_values_total"] * epoch / epochs
        lines.append((step, epoch, None, "sent_values", sent))
    keys = ("step", "epoch", "member", "metric", "value")
    (folder / "events.jsonl").write_text(
        "".join(json.dumps(dict(zip(keys, line, strict=True))) + "\n" for line in lines)
    )
    rows = ["kind,a,b,alpha,bn,split,images,loss,accuracy"]
    for a in range(n):
        for b in [*range(a + 1, n), "average"]:
            kind = "average" if b == "average" else "pair"
            for bn, share in (("averaged", 1.0), ("reestimated", 0.6)):
                for alpha in np.linspace(0, 1, 11):
                    hump = 4 * alpha * (1 - alpha) * share + draw.normal(0, 0.01)
                    loss = 0.35 + hump * values["barrier_loss_max"]
                    accuracy = values["member_acc_mean"] - hump * 35 * min(
                        1, values["barrier_loss_max"]
                    )
                    rows.append(
                        f"{kind},{a},{b},{alpha:.2f},{bn},test,1000,{loss:.5f},{accuracy:.3f}"
                    )
    name = f"barrier-{fingerprint(config['evaluation'])}.csv"
    (folder / name).write_text("\n".join(rows) + "\n")
