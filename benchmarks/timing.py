"""Timing by medians, and the machine that a benchmark ran on."""

from __future__ import annotations

import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch

from wash_bench.record.environment import capture


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
