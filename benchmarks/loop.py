"""Whole-loop time against the bare N x (forward, backward, optimizer step), and the difference.

The bare loop is plain PyTorch: N separate networks in channels-last, torch's fused SGD over
their tensors, the same batches already in memory. The whole loop is wash-bench's, from the data
set to the method. Both are timed in turn in one run.

    python benchmarks/loop.py [--out FILE]
"""

from __future__ import annotations

import argparse
import itertools

import torch
from timing import compare, interleaved, machine, median_seconds, write
from torch.nn import functional as F

from wash_bench.config import TrainingConfig
from wash_bench.core.exchange import LocalExchange
from wash_bench.methods.naive_ensemble import NaiveEnsemble
from wash_bench.methods.papa import Papa
from wash_bench.methods.wash import Wash
from wash_bench.report.tables import markdown
from wash_bench.runner.training_setup import TrainingSetup
from wash_bench.seeds import derive
from wash_bench.train.loop import Loop

MEMBERS = 3


def rows_for(model: str, model_args: dict, repeats: int, ratios: dict[str, float]) -> list[str]:
    """A table; adds the whole loops' ratios to the bare one to ``ratios``."""
    config = TrainingConfig(
        dataset="fashion-mini",
        train_limit=1300,
        model=model,
        model_args=model_args,
        stem="keep",
        population=MEMBERS,
        lr=0.01,
        epochs=10_000,
        device="cpu",
    )
    setting = TrainingSetup.of(config)
    schedule, data = setting.schedule, setting.data

    def loop_with(method) -> Loop:
        population = setting.population(0)
        exchange = LocalExchange(MEMBERS, 0)
        recipes = setting.recipes(0)
        return Loop(config, method, population, exchange, data, recipes, 0, schedule)

    loops = {
        "naive-ensemble": loop_with(NaiveEnsemble()),
        "wash, p = 0.05": loop_with(Wash(Wash.Options(p=0.05))),
        "papa, T = 10": loop_with(Papa()),
    }
    epochs = {name: itertools.count() for name in loops}

    networks = [setting.network(0, m).to(memory_format=torch.channels_last) for m in range(MEMBERS)]
    optimizers = [
        torch.optim.SGD(n.parameters(), lr=0.01, momentum=0.9, weight_decay=1e-4, fused=True)
        for n in networks
    ]
    batches = list(data.epoch_batches(0, 0, 0, config.batch_size, data.recipe))

    def bare() -> None:
        for network in networks:
            network.train()
        for batch in batches:
            for network, optimizer in zip(networks, optimizers, strict=True):
                optimizer.zero_grad()
                F.cross_entropy(network(batch.images), batch.targets).backward()
                optimizer.step()

    works = {"bare": bare} | {
        name: lambda n=name: loops[n].epoch(next(epochs[n]), lambda pulse: None) for name in loops
    }
    times = {name: 1e3 * s / len(batches) for name, s in interleaved(works, repeats).items()}

    population = loops["naive-ensemble"].population
    parts = {
        "batches: gather, crop, flip, normalize": lambda: [
            list(data.epoch_batches(0, m, 0, config.batch_size, data.recipe))
            for m in range(MEMBERS)
        ],
        "zeroing the gradient row": lambda: [
            population.gradient_row(0).zero_() for _ in range(MEMBERS * len(batches))
        ],
        "seeding the forward pass": lambda: [
            torch.manual_seed(derive(0, "forward", m, s))
            for m in range(MEMBERS)
            for s in range(len(batches))
        ],
    }
    rows = []
    for name, ms in times.items():
        what = "bare loop" if name == "bare" else f"whole loop, {name}"
        if name != "bare":
            ratios[f"{model}, {name}"] = ms / times["bare"]
        rows.append([what, f"{ms:.2f}", f"{ms / times['bare']:.3f}"])
    for name, work in parts.items():
        ms = 1e3 * median_seconds(work, repeats) / len(batches)
        rows.append([f"of which {name}", f"{ms:.3f}", f"{ms / times['bare']:.3f}"])
    return [
        "",
        f"## {model} {model_args or ''}: {population.layout.size:,} parameters, 28x28, batch 64, "
        f"N = {MEMBERS}",
        "",
        markdown.table(["", "ms a step (all members)", "ratio to bare"], rows),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--keep", action="store_true", help="make this the machine's baseline")
    arguments = parser.parse_args()
    lines = [
        "# The loop against the bare steps",
        "",
        "Medians over epochs of 20 steps (fashion-mini), bare and whole loops timed in turn.",
        f"Machine: {machine()}. Command: `python benchmarks/loop.py`.",
    ]
    ratios: dict[str, float] = {}
    lines += rows_for("test_resnet", {}, arguments.repeats, ratios)
    slim = {"layers": (1, 1, 1, 1), "channels": (16, 32, 64, 128)}
    lines += rows_for("resnet18", slim, arguments.repeats, ratios)
    write(arguments.out, "\n".join(lines))
    compare("loop", ratios, arguments.keep)


if __name__ == "__main__":
    main()
