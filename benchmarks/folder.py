"""Images a second that a population is fed from a folder, beside a bare DataLoader.

``python benchmarks/folder.py --out benchmarks/results/folder.md`` writes 20,000 JPEGs of
350 to 500 x 300 to 400 pixels (``--data`` keeps them), prepares them (``wash-bench prepare``), and
feeds N members batches from the JPEGs and from what was prepared, with a bare DataLoader in turn:
one that decodes, crops and stacks the same JPEGs for one reader, with as many processes as there
are cores. Nothing is trained: what is timed is the supply.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import timing
import torch
from jpegs import write_jpegs
from torch.utils.data import DataLoader, SubsetRandomSampler
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

from wash_bench.config import TrainingConfig
from wash_bench.cores import cores
from wash_bench.data.load import load_data
from wash_bench.report.tables import markdown
from wash_bench.runner.context import RunContext

SIDE, BATCH = 224, 64
BOUND = 0.9


def bare(root: Path, batches: int, seed: int) -> Iterator[object]:
    """What a user's loop does, up to the uint8 batch."""
    crop = v2.Compose([v2.RandomResizedCrop(SIDE), v2.PILToTensor()])
    files = ImageFolder(str(root / "train"), crop)
    chosen = np.random.default_rng(seed).permutation(len(files))[: batches * BATCH]
    sampler = SubsetRandomSampler(chosen.tolist())
    return iter(DataLoader(files, BATCH, sampler=sampler, num_workers=cores()))


def fed(root: Path, members: int, batches: int, seed: int) -> Iterator[object]:
    """Members in turn, as the loop feeds them; normalized, as the networks take them."""
    config = TrainingConfig(
        dataset=f"folder:{root}", image_size=SIDE, batch_size=BATCH, population=members
    )
    data = load_data(config, torch.device("cpu"))
    streams = [data.epoch_batches(0, m, seed, BATCH, data.recipe) for m in range(members)]
    for _ in range(max(1, batches // members)):
        for stream in streams:
            yield next(stream)


def rate(batches: Iterator[object]) -> float:
    """Images a second after the first batches, which wait for processes to start."""
    for _ in range(2 * cores()):
        next(batches)
    began, count = time.perf_counter(), 0
    for _ in batches:
        count += 1
    return count * BATCH / (time.perf_counter() - began)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--members", default="2,3,5")
    parser.add_argument("--batches", type=int, default=90, help="of one measurement")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--data", type=Path, help="folder of the JPEGs, kept")
    parser.add_argument("--out", help="file for the table")
    given = parser.parse_args()
    RunContext().set_up_torch()  # as a run does
    with tempfile.TemporaryDirectory() as scratch:
        root = write_jpegs(given.data or Path(scratch, "jpegs"), given.images, 200, cores())
        prepared = root.with_name(f"{root.name}-prepared")
        began = time.perf_counter()
        line = [sys.executable, "-m", "wash_bench", "prepare", str(root), "--out", str(prepared)]
        subprocess.run(line, check=True, stdout=subprocess.DEVNULL)
        seconds = time.perf_counter() - began
        text, worst = table(given, root, prepared, seconds)
    timing.write(given.out, text)
    if worst < BOUND:
        sys.exit(1)


def table(
    given: argparse.Namespace, root: Path, prepared: Path, seconds: float
) -> tuple[str, float]:
    """The result, and the least ratio of what was prepared to the bare loader."""
    sizes = [int(word) for word in given.members.split(",")]
    rows, least = [], float("inf")
    for n in sizes:
        rates: dict[str, list[float]] = {"bare": [], "jpeg": [], "prepared": []}
        for seed in range(given.repeats):
            rates["bare"].append(rate(bare(root, given.batches, seed)))
            rates["jpeg"].append(rate(fed(root, n, given.batches, seed)))
            rates["prepared"].append(rate(fed(prepared, n, given.batches, seed)))
        median = {name: statistics.median(values) for name, values in rates.items()}
        ratios = [median[name] / median["bare"] for name in ("jpeg", "prepared")]
        least = min(least, ratios[1])
        rows.append(
            (str(n), *(f"{median[name]:,.0f}" for name in median), *(f"{r:.2f}" for r in ratios))
        )
        print(*rows[-1], file=sys.stderr)
    size = sum(path.stat().st_size for path in prepared.glob("*.pixels"))
    jpegs = sum(path.stat().st_size for path in root.glob("*/*/*.jpg"))
    heads = ["N", "bare DataLoader", "JPEGs", "prepared", "JPEGs / bare", "prepared / bare"]
    return (
        f"""# Feeding a population from a folder

`python benchmarks/folder.py` on {timing.machine()}, {cores()} cores; {given.images:,} synthetic
JPEGs ({jpegs / 1e9:.1f} GB), crops of {SIDE} px, batches of {BATCH}, {given.batches} batches a
measurement, medians of {given.repeats}. Images a second of all N members together; the bare
DataLoader reads for one, crops and stacks, and does not normalize.

{markdown.table(heads, rows)}

Prepared in {seconds:.0f} s: {size / 1e9:.1f} GB.""",
        least,
    )


if __name__ == "__main__":
    main()
