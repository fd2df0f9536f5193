"""Timing by medians, the machine that a benchmark ran on, and what it took there before."""

from __future__ import annotations

import json
import platform
import re
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

from wash_bench.record.environment import capture

BASELINES = Path(__file__).parent / "results" / "baselines"
SLOWER = 1.05


def median_seconds(work: Callable[[], object], repeats: int, warm_up: int = 1) -> float:
    """Median wall-clock seconds of ``work`` over ``repeats`` calls, after ``warm_up`` calls."""
    times = []
    for i in range(warm_up + repeats):
        began = time.perf_counter()
        work()
        if i >= warm_up:
            times.append(time.perf_counter() - began)
    return statistics.median(times)


def interleaved(works: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Medians of several works timed in turn, so that a noisy machine is noisy for all alike."""
    times: dict[str, list[float]] = {name: [] for name in works}
    for i in range(repeats + 1):
        for name, work in works.items():
            began = time.perf_counter()
            work()
            if i:
                times[name].append(time.perf_counter() - began)
    return {name: statistics.median(values) for name, values in times.items()}


def machine() -> str:
    """One line that names the machine, for a results file."""
    found = capture()
    return (
        f"{found.get('cpu', platform.processor())}, {torch.get_num_threads()} threads, "
        f"torch {torch.__version__}, Python {platform.python_version()}"
    )


def write(path: str | None, text: str) -> None:
    print(text)
    if path:
        Path(path).write_text(text + "\n", encoding="utf-8")


def compare(benchmark: str, ratios: dict[str, float], keep: bool) -> None:
    """Hold ratios (smaller is better) to those that are committed for this machine.

    Args:
        benchmark: its name.
        ratios: by what they are of.
        keep: make them the baseline, in place of what there is.

    Prints what got worse by more than 5 %, and ends with exit code 1 if anything did.
    """
    about = f"{capture()['cpu']} {torch.get_num_threads()} threads"
    path = BASELINES / f"{re.sub(r'[^a-z0-9]+', '-', about.lower()).strip('-')}.json"
    known = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    if keep:
        known[benchmark] = {name: float(f"{ratio:.4g}") for name, ratio in ratios.items()}
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(known, indent=1, sort_keys=True) + "\n", encoding="utf-8")
        return
    if benchmark not in known:
        print(f"{benchmark}: no baseline of this machine ({path.name}); --keep makes one")
        return
    before = known[benchmark]
    worse = {n: r for n, r in ratios.items() if n in before and r > SLOWER * before[n]}
    for name, ratio in worse.items():
        print(f"{benchmark}: slower than the baseline: {name}: {ratio:.4g} beside {before[name]}")
    if worse:
        sys.exit(1)
