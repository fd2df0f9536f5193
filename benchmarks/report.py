"""How long a report of many cells takes: made, found as it was, and with one cell more.

    python benchmarks/report.py [--cells 200] [--epochs 20] [--out FILE]

The run folder is synthetic: ten methods at as many seeds as the cells ask for, three members,
events of every epoch with the distance of 20 tensors, and barriers of 21 points, as the digits
preset records them. The numbers in it mean nothing. Each report is made by a fresh
``wash-bench report``; start-up is part of its time.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import timing

from wash_bench.config import EvaluationConfig, RunConfig, TrainingConfig, fingerprint
from wash_bench.metrics import SUMMARY

METHODS = (
    *("wash", "wash-opt", "papa", "dart", "greedy-soup", "naive-ensemble"),
    *("local-sgd", "diloco", "ema", "swa"),
)
MEMBERS, TENSORS, POINTS, STEPS = 3, 20, 21, 40


def write_folder(out: Path, cells: int, epochs: int) -> None:
    """So many cells, methods inside seeds, and a training for each."""
    for place in range(cells):
        write_cell(out, METHODS[place % len(METHODS)], place // len(METHODS), epochs)


def write_cell(out: Path, method: str, seed: int, epochs: int) -> None:
    draw = random.Random(f"{method} {seed}")
    config = RunConfig(
        methods=(method,),
        seeds=(seed,),
        training=TrainingConfig(population=MEMBERS, epochs=epochs, init="shared"),
        evaluation=EvaluationConfig(barrier_points=POINTS),
    )
    training_id = f"{method}-s{seed}-00000000"
    summary = {
        metric.key: draw.uniform(80, 90) if metric.unit == "%" else draw.uniform(0.1, 1)
        for metric in SUMMARY
        if metric.unit != "text"
    }
    record = {
        "schema": 2,
        "cell_id": f"{method}-s{seed}-11111111",
        "training_id": training_id,
        "experiment_id": "test_resnet-digits-n3-22222222",
        "method": method,
        "seed": seed,
        "status": "finished",
        "reason": None,
        "config": config.model_dump(mode="json"),
        "options": {},
        "summary": summary | {"method_predictor": "average", "parameters": 373370},
    }
    write(out / "cells" / f"{record['cell_id']}.json", json.dumps(record, indent=1))
    folder = out / "trainings" / training_id
    write(folder / "environment.json", json.dumps({"cpu": "none", "cpu_cores": 2, "threads": 1}))
    write(folder / "events.jsonl", "".join(events(draw, epochs)))
    name = f"barrier-{fingerprint(record['config']['evaluation'])}.csv"
    write(folder / name, "\n".join(barrier(draw)) + "\n")


def events(draw: random.Random, epochs: int) -> list[str]:
    rows: list[tuple[int, int | None, str]] = []
    whole = ["lr", "sent_values", "sent_bytes", "wire_bytes"]
    whole += ["consensus_distance", "consensus_relative"]
    whole += [f"consensus_layer/layer{i}.weight" for i in range(TENSORS)]
    for epoch in range(1, epochs + 1):
        own = ("train_loss", "val_acc", "val_nll")
        rows += [(epoch, member, metric) for metric in own for member in range(MEMBERS)]
        rows += [(epoch, None, metric) for metric in whole]
    lines = [{"schema": 2}] + [
        {
            "step": STEPS * epoch,
            "epoch": epoch,
            "member": member,
            "metric": metric,
            "value": draw.uniform(50, 90) if metric == "val_acc" else draw.uniform(0.01, 2) * epoch,
        }
        for epoch, member, metric in rows
    ]
    return [json.dumps(line) + "\n" for line in lines]


def barrier(draw: random.Random) -> list[str]:
    lines = ["kind,a,b,alpha,bn,split,images,loss,accuracy"]
    pairs = [("pair", a, b) for a in range(MEMBERS) for b in range(a + 1, MEMBERS)]
    pairs += [("average", a, "average") for a in range(MEMBERS)]
    for kind, a, b in pairs:
        for bn in ("averaged", "reestimated"):
            for point in range(POINTS):
                values = f"{draw.uniform(0.2, 2):.5f},{draw.uniform(10, 90):.3f}"
                lines.append(f"{kind},{a},{b},{point / (POINTS - 1):.2f},{bn},test,400,{values}")
    return lines


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def seconds(folder: Path) -> tuple[float, float]:
    """Wall-clock and processor seconds of ``wash-bench report``."""
    command = [sys.executable, "-m", "wash_bench", "report", str(folder)]
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(
        [*command, "--out", str(folder / "report")],
        check=True,
        stdout=subprocess.DEVNULL,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    wall, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return wall, spent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--cells", type=int, default=200)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--keep", help="Leave the run folder here.")
    parser.add_argument("--out")
    arguments = parser.parse_args()
    lines = [
        f"{timing.machine()}; {arguments.epochs} epochs a training.",
        "",
        "| report of | wall s | CPU s |",
        "|---|---:|---:|",
    ]
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(arguments.keep or temporary)
        for name, cells in (
            ("1 cell", 1),
            (f"{arguments.cells} cells", arguments.cells),
            ("the same again", arguments.cells),
            ("one cell more", arguments.cells + 1),
        ):
            write_folder(folder, cells, arguments.epochs)
            wall, spent = seconds(folder)
            lines.append(f"| {name} | {wall:.2f} | {spent:.2f} |")
    timing.write(arguments.out, "\n".join(lines))


if __name__ == "__main__":
    main()
