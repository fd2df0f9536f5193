"""Time and memory of training steps, with the C library keeping freed memory and without.

``python benchmarks/allocator.py --out benchmarks/results/allocator.md`` trains two members of small
networks on one thread of a CPU, each case in a process of its own, the two ways in turn. A run
keeps it (``wash_bench/runner/allocator.py``). Linux with glibc only.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time

import timing
import torch
from loops import loop_of, setting_of

from wash_bench.methods.wash import Wash
from wash_bench.report.tables import markdown
from wash_bench.runner.allocator import keep_freed_memory

CASES = (
    ("test_resnet", 28, 64, 2000),
    ("test_resnet", 224, 32, 160),
    ("resnet10t", 64, 32, 320),
    ("resnet10t", 128, 32, 160),
    ("vit_tiny_patch16_224", 64, 32, 320),
)


def measured(case: int, kept: bool) -> dict[str, float]:
    """Milliseconds and page faults of a step of both members, and the peak memory in MiB."""
    torch.set_num_threads(1)
    if kept:
        keep_freed_memory()
    model, side, batch, images = CASES[case]
    setting = setting_of(model, 2, image_size=side, batch_size=batch, train_limit=images)
    loop = loop_of(setting, Wash(Wash.Options(p=0.05)), 2)
    loop.epoch(0, lambda pulse: None)
    before, began = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
    loop.epoch(1, lambda pulse: None)
    seconds, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_SELF)
    steps = setting.data.steps_per_epoch(batch)
    return {
        "ms": 1000 * seconds / steps,
        "faults": (after.ru_minflt - before.ru_minflt) / steps,
        "peak": after.ru_maxrss / 1024,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", help="file for the table")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--one", nargs=2, type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        print(json.dumps(measured(given.one[0], bool(given.one[1]))))
        return
    rows = []
    for case, (model, side, batch, _) in enumerate(CASES):
        found: dict[int, list[dict[str, float]]] = {0: [], 1: []}
        for _ in range(given.repeats):
            for kept in (0, 1):
                line = [sys.executable, __file__, "--one", str(case), str(kept)]
                done = subprocess.run(line, check=True, stdout=subprocess.PIPE)
                found[kept].append(json.loads(done.stdout))
        old, new = (
            {key: statistics.median(each[key] for each in found[kept]) for key in found[kept][0]}
            for kept in (0, 1)
        )
        rows.append(
            (
                f"{model}, {side} px, batch {batch}",
                *(f"{way[key]:,.0f}" for key in ("ms", "faults", "peak") for way in (old, new)),
                f"{new['ms'] / old['ms']:.2f}",
                f"{new['peak'] / old['peak']:.2f}",
            )
        )
        print(*rows[-1], file=sys.stderr)
    heads = ["", "ms a step", "kept", "page faults", "kept", "peak, MiB", "kept", "time", "memory"]
    text = f"""# Keeping freed memory

`python benchmarks/allocator.py` on {timing.machine()}, one thread; medians of {given.repeats}
processes each. A step is of two members. The last columns are ratios, kept to as it is.

{markdown.table(heads, rows)}"""
    timing.write(given.out, text)


if __name__ == "__main__":
    main()
