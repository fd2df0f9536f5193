"""Steps of a population on a CUDA device: the engines, the loop a user would write, PAPA's own.

    python benchmarks/gpu.py [--out FOLDER] [--seconds 300]

Writes gpu-NAME.md and gpu-NAME.json, NAME being the device's. What does not fit into the time is
named as left out. All times of a line are taken in one run, one after another.
"""

from __future__ import annotations

import argparse
import copy
import gc
import itertools
import json
import platform
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import timm
import torch
import torchvision
from gpu_loops import UsersLoop, papa_published, wash_by_masks

from wash_bench.config import TrainingConfig
from wash_bench.core.exchange import LocalExchange
from wash_bench.core.population import Population
from wash_bench.data.catalog import spec_of
from wash_bench.data.memory import MemorySource
from wash_bench.data.readers import Arrays
from wash_bench.errors import CellFailure
from wash_bench.methods.naive_ensemble import NaiveEnsemble
from wash_bench.methods.papa import Papa
from wash_bench.methods.wash import Wash
from wash_bench.models.build import build_model
from wash_bench.report.tables import markdown
from wash_bench.runner.training_setup import TrainingSetup
from wash_bench.train.graph import WARM_UP, GraphEngine
from wash_bench.train.loop import Loop

CUDA = torch.device("cuda")
BATCH = 64
# Name, network, its stem, image side, steps an epoch.
NETWORKS = [
    ("test_resnet, 28 px", "test_resnet", "keep", 28, 60),
    ("ResNet-18, 32 px", "resnet18", "cifar", 32, 60),
    ("ViT-Ti/16, 224 px", "vit_tiny_patch16_224", "keep", 224, 20),
    ("ResNet-50, 224 px", "resnet50", "keep", 224, 10),
]
MEASURED = 0.8  # seconds of a measurement at least, and 3 epochs


class Bench:
    """The networks and images of one line of the table, used by all loops alike."""

    def __init__(self, name: str, model: str, stem: str, side: int, steps: int) -> None:
        self.name, self.side, self.steps = name, side, steps
        self.model = model
        spec = spec_of("cifar10")
        rng = np.random.default_rng(0)
        shape = (BATCH * steps, spec.size, spec.size, spec.channels)
        images = rng.integers(0, 256, shape, dtype=np.uint8)
        labels = rng.integers(0, 10, BATCH * steps)
        one = (images[:10], np.arange(10))
        arrays = Arrays((images, labels), one)
        self.data = MemorySource(spec, arrays, CUDA, val_share=0.0, image_size=side)
        self.network = build_model(
            model, classes=10, channels=3, size=side, stem=stem, seed_value=0
        )

    def config(self, n: int, **settings) -> TrainingConfig:
        defaults = {"dataset": "cifar10", "image_size": self.side, "model": self.model}
        defaults |= {"population": n, "batch_size": BATCH, "lr": 0.01, "epochs": 10_000}
        return TrainingConfig(**defaults, device="cuda", **settings)

    def loop(self, n: int, method=None, **settings) -> Loop:
        config = self.config(n, **settings)
        setting = TrainingSetup(config, CUDA, self.data)
        population = Population(
            lambda member: copy.deepcopy(self.network),
            n,
            device=CUDA,
            channels_last=config.channels_last,
            optimizer_slots=("momentum_buffer",),
            own_gradients=setting.own_gradients,
        )
        exchange = LocalExchange(n, 0)
        recipes = [self.data.recipe] * n
        rule = method or NaiveEnsemble()
        return Loop(config, rule, population, exchange, self.data, recipes, 0, setting.schedule)

    def batches(self) -> list:
        return list(self.data.epoch_batches(0, 0, 0, BATCH, self.data.recipe))


def epochs_of(loop: Loop) -> Callable[[], object]:
    counter = itertools.count()
    torch.backends.cudnn.deterministic = loop.config.deterministic
    torch.backends.cudnn.benchmark = not loop.config.deterministic
    return lambda: loop.epoch(next(counter), lambda pulse: None)


def milliseconds(epoch: Callable[[], object], steps: int) -> float:
    """Median over epochs, of a step of all members, after one epoch to warm up."""
    epoch()
    torch.cuda.synchronize()
    times, began = [], time.perf_counter()
    while len(times) < 3 or time.perf_counter() - began < MEASURED:
        start = time.perf_counter()
        epoch()
        torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return 1e3 * statistics.median(times) / steps


def bare(loop: Loop, steps: int) -> float:
    """Milliseconds that the members' graphs take alone, each replayed by itself, added up."""
    engine = loop.engine
    assert isinstance(engine, GraphEngine)
    graphs = [captured.graph for captured in engine._captured.values()]
    return sum(
        milliseconds(lambda graph=graph: [graph.replay() for _ in range(steps)], steps)
        for graph in graphs[: loop.population.n]
    )


def main_rows(bench: Bench, n: int, amp: str) -> Iterator[dict]:
    """All loops of one network, population and precision."""

    def ours(method=None, **settings):
        loop = bench.loop(n, method, amp=amp, **settings)
        return epochs_of(loop), loop

    def theirs(couple=None, together=False):
        networks = [copy.deepcopy(bench.network) for _ in range(n)]
        loop = UsersLoop(networks, CUDA, amp, bench.batches(), couple, together)
        return loop.epoch, None

    works: dict[str, Callable] = {
        "a user's loop": theirs,
        "a user's loop, WASH by masks": lambda: theirs(wash_by_masks(0.01)),
        "PAPA's published loop": lambda: theirs(papa_published(0.99, 10), together=True),
        "eager": lambda: ours(engine="eager"),
        "graph": lambda: ours(engine="graph"),
        "graph, WASH": lambda: ours(Wash(Wash.Options(p=0.01)), engine="graph"),
        "graph, PAPA": lambda: ours(Papa(), engine="graph"),
        "graph, compiled": lambda: ours(engine="graph", compile=True),
    }
    users = None
    for what, work in works.items():
        row: dict = {"network": bench.name, "amp": amp, "n": n, "loop": what, "ms": None}
        try:
            row |= _measured(work, bench.steps, alone=what == "graph")
            users = users or row["ms"]
            row["images_per_second"] = 1e3 * n * BATCH / row["ms"]
            row["speedup"] = users / row["ms"]
        except torch.OutOfMemoryError:
            pass
        except CellFailure as error:
            row["failed"] = str(error)
        yield row


def _measured(work: Callable, steps: int, alone: bool = False) -> dict:
    """Milliseconds a step and peak of allocated GiB of the loop that ``work`` makes."""
    gc.collect()  # the loop before this one
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    epoch, loop = work()
    row: dict = {"ms": milliseconds(epoch, steps)}
    row["peak_gib"] = torch.cuda.max_memory_allocated() / 2**30
    row["bare_ms"] = bare(loop, steps) if alone else None
    if loop is not None and isinstance(loop.engine, GraphEngine):
        row["streams"] = "side by side" if loop.engine.side_by_side else "one"
    return row


def choices(bench: Bench, n: int, left: Callable[[], float]) -> Iterator[dict]:
    """What a setting costs or gains, beside the defaults with graphs in bfloat16."""
    settings: dict[str, dict] = {
        "defaults (deterministic, channels-last)": {},
        "--no-deterministic": {"deterministic": False},
        "contiguous weights": {"channels_last": False},
        "float32": {"amp": "off"},
    }
    first = None
    for what, chosen in settings.items():
        if left() < 10:
            yield {"network": bench.name, "n": n, "setting": what, "ms": None}
            continue
        began = time.perf_counter()

        def work(chosen=chosen):
            loop = bench.loop(n, **{"amp": "bf16", "engine": "graph"} | chosen)
            return epochs_of(loop), loop

        row = {"network": bench.name, "n": n, "setting": what} | _measured(work, bench.steps)
        first = first or row["ms"]
        row |= {"ratio": row["ms"] / first, "seconds_in_all": time.perf_counter() - began}
        yield row


def tables(found: dict) -> str:
    """The report as Markdown."""

    def cell(value, digits: int) -> str:
        return "" if value is None else f"{value:,.{digits}f}"

    lines = [
        f"# Steps of a population on one {found['device']}",
        "",
        f"Driver {found['driver']}, torch {found['torch']} (CUDA {found['cuda']}, cuDNN "
        f"{found['cudnn']}), torchvision {found['torchvision']}, timm {found['timm']}, Python "
        f"{found['python']}. Command: `make gpu` (`python benchmarks/gpu.py`); batches of {BATCH}, "
        "SGD with momentum, random images and 10 classes. Milliseconds are of a step of all "
        "members, wall-clock medians over epochs; every loop's networks are channels-last.",
        "",
        "- *a user's loop*: a list of networks, torch's SGD, autocast, batches that already lie "
        "augmented on the device; nothing else. *WASH by masks* draws a Bernoulli mask a tensor "
        "and step and permutes there, p = 0.01.",
        "- *PAPA's published loop*: restated from its description: N forward passes, one backward "
        "pass of the summed loss, N optimizer steps, and every 10 steps the mean taken tensor by "
        "tensor over the state dicts; batches as above.",
        "- *eager*, *graph*: this suite's whole loop, with the drawing of the data's order, crop, "
        "flip and normalization, the looks at the losses and the member's seeds.",
        "- *compiled*: with `--compile`, one network compiled by torch.compile for all members.",
        "- *of the bare device*: the time of the members' captured steps, each replayed by itself, "
        "added up, over the whole loop's. Above 1: members side by side.",
        "",
    ]
    for name in dict.fromkeys(row["network"] for row in found["steps"]):
        rows = [row for row in found["steps"] if row["network"] == name]
        table = []
        for row in rows:
            if row["ms"] is None:
                why = row.get("failed") or "out of memory"
                table.append([row["amp"], str(row["n"]), row["loop"], why, *4 * [""]])
                continue
            share = row["bare_ms"] and row["bare_ms"] / row["ms"]
            numbers = [cell(row["ms"], 2), cell(row["images_per_second"], 0)]
            numbers += [cell(row["speedup"], 2), cell(share, 2), cell(row["peak_gib"], 2)]
            table.append([row["amp"], str(row["n"]), row["loop"], *numbers])
        headings = ["precision", "N", "loop", "ms a step", "images/s", "times the user's"]
        headings += ["of the bare device", "peak GiB"]
        lines += [f"## {name}", "", markdown.table(headings, table), ""]
    lines += ["## Settings, graphs, bfloat16", ""]
    table = []
    for row in found["settings"]:
        numbers = [cell(row["ms"], 2) or "left out: no time", cell(row.get("ratio"), 2)]
        numbers += [cell(row.get("peak_gib"), 2), cell(row.get("seconds_in_all"), 0)]
        table.append([row["network"], str(row["n"]), row["setting"], *numbers])
    headings = ["network", "N", "setting", "ms a step", "ratio", "peak GiB", "seconds, start-up in"]
    lines += [markdown.table(headings, table), ""]
    if found["left_out"]:
        lines += ["Left out for want of time: " + "; ".join(found["left_out"]) + ".", ""]
    return "\n".join(lines)


def _driver() -> str:
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        return subprocess.run(command, capture_output=True, text=True).stdout.split()[0]
    except (OSError, IndexError):
        return "unknown"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    parser.add_argument("--seconds", type=float, default=300.0)
    parser.add_argument("--populations", default="3,5,10")
    arguments = parser.parse_args()
    if not torch.cuda.is_available():
        sys.exit("benchmarks/gpu.py needs a CUDA device, and there is none here")
    began = time.perf_counter()
    populations = [int(n) for n in arguments.populations.split(",")]

    def left() -> float:
        return arguments.seconds - (time.perf_counter() - began)

    device = torch.cuda.get_device_name()
    found: dict = {
        "device": device,
        "driver": _driver(),
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
        "torchvision": torchvision.__version__,
        "timm": timm.__version__,
        "python": platform.python_version(),
        "warm_up_steps": WARM_UP,
        "steps": [],
        "settings": [],
        "left_out": [],
    }
    name = "gpu-" + re.sub(r"[^a-z0-9]+", "-", device.lower()).strip("-")

    def keep(part: str, rows: Iterator[dict]) -> None:
        for row in rows:
            found[part].append(row)
            print({key: row[key] for key in row if row[key] is not None}, flush=True)
            (arguments.out / f"{name}.json").write_text(json.dumps(found, indent=1) + "\n")
            (arguments.out / f"{name}.md").write_text(tables(found))

    arguments.out.mkdir(parents=True, exist_ok=True)
    benches = []
    for network in NETWORKS:
        benches.append(Bench(*network))
        print(f"{network[0]}: made, {left():.0f} s left", flush=True)
    # The most asked-for first: what has no time left is named.
    for n, amp in itertools.product(populations[:1], ("bf16", "off")):
        for bench in benches:
            if left() > 30:
                keep("steps", main_rows(bench, n, amp))
            else:
                found["left_out"].append(f"{bench.name}, N = {n}, {amp}")
    for bench in (benches[1], benches[3]):
        keep("settings", choices(bench, populations[0], lambda: left() - 90))
    for n, amp in itertools.product(populations[1:], ("bf16", "off")):
        for bench in benches:
            if left() > 20:
                keep("steps", main_rows(bench, n, amp))
            else:
                found["left_out"].append(f"{bench.name}, N = {n}, {amp}")
    found["steps"].sort(key=lambda row: (row["network"], row["amp"], row["n"]))
    keep("settings", iter(()))
    (arguments.out / f"{name}.json").write_text(json.dumps(found, indent=1) + "\n")
    (arguments.out / f"{name}.md").write_text(tables(found))


if __name__ == "__main__":
    main()
