"""Does a long run grow? Memory, event log and files of a training of 11,250 steps.

``python benchmarks/long_run.py --out benchmarks/results/long_run.md`` trains two members on the
digits, validates and saves them 50 times, and reads this process's resident memory and the run
folder after each. Ends with exit code 1 if memory grew by more than ``BOUND`` after the fifth
validation, or the folder by more than its event log.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from wash_bench.config import EvaluationConfig, RunConfig, TrainingConfig
from wash_bench.plugins.registry import find_method
from wash_bench.record.environment import capture
from wash_bench.runner.context import RunContext
from wash_bench.runner.experiment import run_experiment
from wash_bench.runner.progress import Progress

EPOCHS = 50
BOUND = 8.0  # MiB; a member's weights are 1.5, an epoch's batches 0.9
SHOWN = (1, 5, 10, 20, 30, 40, 50)

CONFIG = RunConfig(
    methods=("wash",),
    set={"wash": {"p": 0.05}},
    training=TrainingConfig(
        dataset="digits",
        train_limit=900,
        val_share=0.1,
        image_size=16,
        model="test_resnet",
        stem="keep",
        population=2,
        epochs=EPOCHS,
        batch_size=4,
        device="cpu",
    ),
    evaluation=EvaluationConfig(barrier_points=3, barrier_images=50, bn_images=64),
)


def resident() -> float:
    """MiB of this process in memory, now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def measure(out: Path) -> list[tuple[int, float, int, int]]:
    """After each epoch: steps, resident MiB, bytes of the event log, and files of the folder."""
    rows: list[tuple[int, float, int, int]] = []

    def observe(progress: Progress) -> None:
        # Between an epoch's validation and its checkpoint: what is on disk is the epoch before.
        if progress.status == "training" and progress.epoch == len(rows) + 1:
            logs = [path.stat().st_size for path in out.glob("trainings/*/events.jsonl")]
            files = sum(path.is_file() for path in out.rglob("*"))
            rows.append((progress.step, resident(), sum(logs), files))

    run_experiment(CONFIG, [find_method("wash")], RunContext(out=out, threads=1, observer=observe))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, help="file for the table")
    given = parser.parse_args()
    torch.set_num_threads(1)
    began = time.monotonic()
    with TemporaryDirectory() as folder:
        rows = measure(Path(folder) / "runs")
    grown = rows[-1][1] - rows[4][1]
    machine = capture()
    lines = [
        "# A long run",
        "",
        "`python benchmarks/long_run.py`: WASH, two members of test_resnet on the digits, batches "
        f"of 4, {rows[-1][0]:,} steps with {len(rows)} validations and checkpoints, "
        f"{time.monotonic() - began:.0f} s on {machine['cpu']}, torch {machine['torch']}, one "
        f"thread. Resident memory grew by {grown:.1f} MiB from epoch 5 to the end (bound: "
        f"{BOUND:g}).",
        "",
        "| epoch | steps | resident, MiB | event log, kB | files in the run folder |",
        "| ---: | ---: | ---: | ---: | ---: |",
    ]
    for epoch in SHOWN:
        steps, memory, log, files = rows[epoch - 1]
        lines.append(f"| {epoch} | {steps:,} | {memory:.1f} | {log / 1000:.1f} | {files} |")
    text = "\n".join(lines) + "\n"
    print(text)
    if given.out:
        given.out.write_text(text)
    a_log_an_epoch = (rows[-1][2] - rows[4][2]) / (len(rows) - 5)
    steady = a_log_an_epoch <= 1.2 * (rows[4][2] - rows[1][2]) / 3
    sys.exit(not (grown <= BOUND and steady and rows[-1][3] == rows[4][3]))


if __name__ == "__main__":
    main()
