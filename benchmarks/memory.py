"""Memory of a population, and what a barrier costs beside its forward passes.

``python benchmarks/memory.py --out benchmarks/results/memory.md`` trains N ResNet-18 (CIFAR stem,
32 px) for some steps with SGD under WASH and takes their barriers, each N in a process of its own,
and reads the greatest resident memory of both. Then it times a 21-point barrier over all pairs of
five test_resnet, network by network in turn with the bare forward passes of one. Linux only.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import torch
from loops import loop_of, setting_of
from timing import write

from wash_bench.config import EvaluationConfig
from wash_bench.evaluate.barrier import barrier_points
from wash_bench.evaluate.evaluator import Evaluator
from wash_bench.methods.wash import Wash
from wash_bench.record.environment import capture
from wash_bench.report.tables import markdown
from wash_bench.runner.allocator import keep_freed_memory

SIZES = (2, 4, 6, 10)
P = 0.001  # the papers' for ResNet-18; what a shuffle takes for a moment grows with it
REPEATS = 3  # processes of each size, of which the one with the lowest peak counts
BOUND, MORE = 2.1, 1.1  # vectors a member; a barrier in units of its forward passes
IMAGES, STREAM = 250, 320  # of a point of the timed barrier, and for its BatchNorm statistics


def peak() -> float:
    """The greatest resident memory since the last ``forget``, bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return 1024.0 * int(line.split()[1])
    raise OSError("no VmHWM in /proc/self/status")


def forget() -> None:
    Path("/proc/self/clear_refs").write_text("5")


def measured(n: int) -> dict[str, float]:
    """Peaks of one population of ResNet-18, in bytes, and the size of a member."""
    torch.set_num_threads(1)
    keep_freed_memory()  # as a run does
    setting = setting_of("resnet18", n, image_size=32, train_limit=96, batch_size=16, stem="cifar")
    loop = loop_of(setting, Wash(Wash.Options(p=P)), n)
    population = loop.population
    forget()
    for epoch in range(2):
        loop.epoch(epoch, lambda pulse: None)
    training = peak()
    forget()
    settings = EvaluationConfig(barrier_points=3, barrier_images=32, barrier_bn_images=32)
    evaluator = Evaluator(population, setting.data, "off", 0, setting.recipes(0), batch_size=32)
    barrier_points(evaluator, [population.state(i) for i in range(n)], settings)
    return {"d": population.layout.size, "training": training, "barriers": peak()}


def barrier_ratio() -> tuple[float, int]:
    """Seconds of a barrier over seconds of its bare forward passes, and how many networks."""
    torch.set_num_threads(1)
    n = 5
    settings = EvaluationConfig(barrier_points=21, barrier_images=IMAGES, barrier_bn_images=STREAM)
    setting = setting_of("test_resnet", n)
    population = setting.population(0)
    evaluator = Evaluator(population, setting.data, "off", 0, setting.recipes(0))
    members = [population.state(i) for i in range(n)]
    tests = [x for x, _ in setting.data.eval_batches("test", settings.barrier_images)]
    stream = list(
        setting.data.reestimation_batches(
            0, setting.recipes(0), settings.barrier_bn_images, evaluator.batch_size
        )
    )
    network = setting.network(0, 0).to(memory_format=torch.channels_last)

    @torch.no_grad()
    def bare() -> None:
        for images in tests:
            network.eval()(images)
        for images in stream:
            network.train()(images)
        for images in tests:
            network.eval()(images)

    seconds, networks, began = [0.0, 0.0], 0, 0.0

    def in_turn(done: int, total: int) -> None:
        nonlocal networks, began
        measured = time.perf_counter()
        bare()
        after = time.perf_counter()
        seconds[0] += measured - began
        seconds[1] += after - measured
        networks, began = total, after

    evaluator.compute(members[0], "test", IMAGES)  # makes the batches, which it keeps
    evaluator.reestimated(members[0], STREAM)
    bare()
    began = time.perf_counter()
    barrier_points(evaluator, members, settings, in_turn)
    return seconds[0] / seconds[1], networks


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", help="file for the table")
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        print(json.dumps(measured(given.one)))
        return
    found = {}
    for n in SIZES:
        line = [sys.executable, __file__, "--one", str(n)]
        tries = [
            json.loads(subprocess.run(line, check=True, stdout=subprocess.PIPE).stdout)
            for _ in range(REPEATS)
        ]
        # What varies, some tens of MiB of what libraries take for a moment, only adds.
        found[n] = {key: min(each[key] for each in tries) for key in tries[0]}
    d = 4 * found[SIZES[0]]["d"]
    slope = {
        name: float(np.polyfit(SIZES, [found[n][name] / d for n in SIZES], 1)[0])
        for name in ("training", "barriers")
    }
    ratio, networks = barrier_ratio()
    machine = capture()
    rows = [
        (str(n), *(f"{found[n][name] / 2**20:,.0f}" for name in ("training", "barriers")))
        for n in SIZES
    ]
    size = f"{found[SIZES[0]]['d']:,} parameters = {d / 2**20:.1f} MiB a member"
    text = f"""# Memory of a population, and the price of a barrier

`python benchmarks/memory.py` on {machine["cpu"]}, torch {machine["torch"]}, one thread.

**Memory.** N ResNet-18 (CIFAR stem, 32 px, {size}), WASH (p = {P}) with SGD and
momentum, batches of 16; the lowest peak of {REPEATS} processes each.
Peak resident memory grows by {slope["training"]:.2f} times a member's weights for each member while
it trains (bound: {BOUND}, weights and momentum are 2), and by {slope["barriers"]:.2f} while the
barriers of all pairs are taken: no population is copied.

{markdown.table(["N", "training, MiB", "barriers, MiB"], rows)}

**Barrier.** All pairs of five test_resnet, and each to the average, 21 points, each with its own
and with re-estimated BatchNorm statistics, {networks} networks: {ratio:.3f} times the bare forward
passes of as many networks (bound: {MORE})."""
    write(given.out, text)
    if max(slope.values()) > BOUND or ratio > MORE:
        sys.exit(1)


if __name__ == "__main__":
    main()
