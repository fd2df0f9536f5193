"""What one WASH shuffle costs, beside a training step and beside other ways to do it.

ResNet-18 with the CIFAR stem, N = 5. All forms apply the same rule (each coordinate of layer l
with probability p_l, permuted by a permutation of its own); they differ in how they do it:

- indices: wash-bench's, which draws only the selected coordinates of the (N, d) tensor;
- mask per tensor: a Bernoulli mask and an argsort of random numbers for each parameter tensor;
- full permutations: a random permutation for every coordinate of the row, and `where`.

    python benchmarks/shuffle.py [--out FILE]
"""

from __future__ import annotations

import argparse

import torch
from timing import compare, interleaved, machine, write

from wash_bench.config import TrainingConfig
from wash_bench.core.exchange import LocalExchange
from wash_bench.core.population import Population
from wash_bench.core.step_info import Schedule
from wash_bench.methods.papa import Papa
from wash_bench.methods.wash import Wash
from wash_bench.models.build import build_model
from wash_bench.report.tables import markdown
from wash_bench.train.optim import RowOptimizer

MEMBERS, BATCH = 5, 64


def mask_per_tensor(population: Population, table: dict[str, float]) -> None:
    n = population.n
    for piece in population.layout.slices:
        rows = population.weights[:, piece.offset : piece.stop]
        mask = torch.rand(piece.size) < table[piece.name]
        count = int(mask.sum())
        order = torch.rand(n, count).argsort(dim=0)
        rows[:, mask] = rows[:, mask].gather(0, order)


def full_permutations(population: Population, table: dict[str, float]) -> None:
    n = population.n
    for piece in population.layout.slices:
        rows = population.weights[:, piece.offset : piece.stop]
        order = torch.rand(n, piece.size).argsort(dim=0)
        mask = torch.rand(piece.size) < table[piece.name]
        rows.copy_(torch.where(mask, rows.gather(0, order), rows))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--keep", action="store_true", help="make this the machine's baseline")
    arguments = parser.parse_args()

    config = TrainingConfig()
    population = Population(
        lambda member: build_model(
            "resnet18", classes=10, channels=3, size=32, stem="cifar", seed_value=member
        ),
        MEMBERS,
        optimizer_slots=("momentum_buffer",),
    )
    optimizer = RowOptimizer(population, config)
    images = torch.randn(BATCH, 3, 32, 32).to(memory_format=torch.channels_last)
    labels = torch.randint(10, (BATCH,))

    def training_step() -> None:
        for member, module in enumerate(population.modules):
            population.gradient_row(0).zero_()
            torch.nn.functional.cross_entropy(module(images), labels).backward()
            optimizer.step(member, 0.0)

    exchange = LocalExchange(MEMBERS, seed=0)
    schedule = Schedule("constant", 0.1, 0.0, steps=10**6, steps_per_epoch=10**6)
    clocks = schedule.clocks()
    papa = Papa(Papa.Options(every=1))

    lines = [
        "# The cost of one shuffle",
        "",
        f"ResNet-18 (CIFAR stem), d = {population.layout.size:,}, N = {MEMBERS}, layer rule "
        "linear_to_zero; medians, all forms timed in turn in one run.",
        f"Machine: {machine()}. Command: `python benchmarks/shuffle.py`.",
        "",
    ]
    rows = []
    ratios = {}
    for p in (0.001, 0.05):
        wash = Wash(Wash.Options(p=p))
        table = wash.probabilities(population.layout, MEMBERS)
        works = {
            "training step of all members, batch 64": training_step,
            "indices (wash-bench)": lambda w=wash: w.after_step(population, exchange, next(clocks)),
            "mask per tensor": lambda t=table: mask_per_tensor(population, t),
            "full permutations": lambda t=table: full_permutations(population, t),
            "PAPA's pull, for comparison": lambda: papa.after_step(
                population, exchange, next(clocks)
            ),
        }
        times = interleaved(works, arguments.repeats)
        step = times["training step of all members, batch 64"]
        ratios[f"shuffle of a step, p = {p}"] = times["indices (wash-bench)"] / step
        for name, seconds in times.items():
            rows.append([f"{p}", name, f"{1e3 * seconds:.2f}", f"{100 * seconds / step:.2f}"])
    lines.append(markdown.table(["p", "form", "ms", "per cent of a training step"], rows, "llrr"))
    write(arguments.out, "\n".join(lines))
    compare("shuffle", ratios, arguments.keep)


if __name__ == "__main__":
    main()
