"""One population of four on two cores: one process of two threads, two processes, or two jobs.

    python benchmarks/processes.py [--out FILE]

Whole runs of the command line; the seconds are those of the training loop, from the records. The
three ways take turns, and each is repeated, so that a noisy machine is noisy for all alike.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from timing import machine, write

from wash_bench.report.tables import markdown

CHEAP = [
    "--bn-images",
    "32",
    "--barrier-points",
    "3",
    "--barrier-images",
    "20",
    "--barrier-bn-images",
    "32",
]
COMMON = ["--population", "4", "--epochs", "3", "--no-report", *CHEAP]
CASES = {
    "test_resnet, 16 px, batch 32 (120 steps)": ["digits"],
    "resnet18 (CIFAR stem), 16 px, batch 32": [
        "digits", "--model", "resnet18", "--stem", "cifar", "--train-limit", "160",
    ],
}  # fmt: skip
METHODS = ("wash", "papa")
WAYS = {
    "1 process of 2 threads": (["--threads", "2"], 1),
    "--nproc 2, 1 thread each": (["--nproc", "2", "--threads", "1"], 1),
    "--jobs 2, 1 thread each": (["--jobs", "2", "--threads", "1"], 2),
}


def seconds(case: list[str], method: str, way: list[str], trainings: int) -> float:
    """Seconds a training: the mean of the trainings' own seconds over how many ran at once."""
    seeds = ",".join(map(str, range(trainings)))
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "wash_bench", "run", *case, *COMMON, *way]
        command += ["--methods", method, "--seeds", seeds, "--out", folder]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        records = [json.loads(file.read_text()) for file in Path(folder).glob("cells/*.json")]
    each = [record["summary"]["train_seconds"] for record in records]
    if len(each) != trainings:
        raise RuntimeError(f"{len(each)} records of {trainings} trainings")
    return statistics.mean(each) / trainings


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out")
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    lines = [
        "# One population of four members on two cores",
        "",
        f"Machine: {machine()}; gloo over the loopback device. "
        "Command: `python benchmarks/processes.py`. Seconds of the training loop for one training, "
        f"median of {arguments.repeats} runs, 3 epochs; with --jobs 2, two trainings (two seeds) "
        "run at once and the seconds are those of one over two. In brackets: how many times faster "
        "than one process of two threads.",
        "",
    ]
    rows = []
    for title, case in CASES.items():
        for method in METHODS:
            taken: dict[str, list[float]] = {way: [] for way in WAYS}
            for _ in range(arguments.repeats):
                for way, (options, trainings) in WAYS.items():
                    taken[way].append(seconds(case, method, options, trainings))
            found = {way: statistics.median(times) for way, times in taken.items()}
            base = found["1 process of 2 threads"]
            cells = [f"{took:.2f} ({base / took:.2f}x)" for took in found.values()]
            rows.append([title, method, *cells])
    lines.append(markdown.table(["network", "method", *WAYS], rows, "ll" + "r" * len(WAYS)))
    write(arguments.out, "\n".join(lines))


if __name__ == "__main__":
    main()
