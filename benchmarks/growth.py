"""How time, memory and bytes grow with members, parameters and the side of the images.

    python benchmarks/growth.py [--out FOLDER]

Writes growth.md, growth.json and growth.png. Times are of the whole loop on one thread, a step of
one member; memory is what a member keeps (weights and momentum), bytes what it sends a step.
"""

from __future__ import annotations

import argparse
import itertools
import json
from pathlib import Path
from typing import Any

import torch
from loops import loop_of, setting_of
from matplotlib.figure import Figure
from timing import machine, median_seconds, write

from wash_bench.core.method import CommShape, Method, predict_comm
from wash_bench.known_methods import CURVES
from wash_bench.methods.naive_ensemble import NaiveEnsemble
from wash_bench.methods.papa import Papa
from wash_bench.methods.wash import Wash
from wash_bench.report import style
from wash_bench.report.tables import markdown
from wash_bench.train.optim import optimizer_slots

BATCH, STEPS = 16, 4
RESNETS = {  # by the channels of the first stage; PyTorch's ResNet-18 has 64
    width: ("resnet18", {"channels": tuple(width * 2**i for i in range(4))})
    for width in (8, 16, 32)
} | {64: ("resnet18", {}), 0: ("resnet50", {})}
SETTINGS: dict[str, list[tuple[Any, str, dict[str, Any], int, int]]] = {
    "members": [(n, "test_resnet", {}, n, 28) for n in (1, 2, 4, 8, 16)],
    "parameters": [(width, *RESNETS[width], 2, 32) for width in (8, 16, 32, 64, 0)],
    "side of the images": [(side, "resnet18", {}, 2, side) for side in (28, 56, 112, 224)],
}
SENDERS: dict[str, Method] = {
    "wash, p = 0.001": Wash(Wash.Options(p=0.001)),
    "papa, every 10 steps": Papa(),
}


def measured(model: str, model_args: dict[str, Any], n: int, side: int, repeats: int) -> dict:
    """Milliseconds a step and member, parameters, MiB a member, bytes a step by method."""
    setting = setting_of(
        model, max(n, 2), model_args=model_args, stem="keep", image_size=side, batch_size=BATCH,
        train_limit=BATCH * STEPS, val_share=0.02, epochs=1000,
    )  # fmt: skip
    loop = loop_of(setting, NaiveEnsemble(), n)
    epochs = itertools.count()
    seconds = median_seconds(lambda: loop.epoch(next(epochs), lambda pulse: None), repeats)
    steps = setting.data.steps_per_epoch(BATCH)
    layout = loop.population.layout
    site = CommShape(layout, max(n, 2), len(optimizer_slots(setting.config)))
    bills = {name: predict_comm(method, site, setting.schedule) for name, method in SENDERS.items()}
    sent = {name: told.sent_bytes / setting.schedule.steps for name, told in bills.items() if told}
    d = layout.size
    return {"ms": 1e3 * seconds / steps / n, "d": d, "MiB": 8 * d / 2**20, "sent": sent}


def drawn(found: dict[str, list[dict]]) -> Figure:
    figure = Figure(figsize=(style.paper().text, 4.6), layout="constrained")
    axes = figure.subplots(2, 2).flat
    by_d = found["parameters"]
    for axis, (what, rows) in zip(axes, found.items(), strict=False):
        x = [row["d"] if what == "parameters" else row["x"] for row in rows]
        axis.plot(x, [row["ms"] for row in rows], "o-", color=CURVES["wash"][0])
        axis.set(xlabel=what, ylabel="ms a step and member")
        if what == "parameters":
            axis.set(xscale="log", yscale="log")
            right = axis.twinx()
            right.plot(x, [row["MiB"] for row in rows], "s--", color=CURVES["papa"][0])
            right.set(yscale="log", ylabel="MiB a member (dashed)")
        else:
            axis.set_ylim(bottom=0)
            axis.set_xticks(x)
    last = figure.axes[3]
    for (name, mark), colour in zip(
        (("wash, p = 0.001", "o-"), ("papa, every 10 steps", "s-")), ("wash", "papa"), strict=True
    ):
        sent = [row["sent"][name] for row in by_d]
        last.plot([row["d"] for row in by_d], sent, mark, color=CURVES[colour][0], label=name)
    last.set(xscale="log", yscale="log", xlabel="parameters", ylabel="bytes sent a step and member")
    last.legend()
    return figure


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, help="folder for the three files")
    parser.add_argument("--repeats", type=int, default=3)
    given = parser.parse_args()
    torch.set_num_threads(1)
    found: dict[str, list[dict]] = {}
    for what, settings in SETTINGS.items():
        for x, model, model_args, n, side in settings:
            row = measured(model, model_args, n, side, given.repeats)
            found.setdefault(what, []).append({"x": x, "model": model, "n": n, "side": side} | row)
    rows = [
        (
            what, row["model"], f"{row['d']:,}", str(row["n"]), str(row["side"]),
            f"{row['ms']:.1f}", f"{row['MiB']:.1f}",
            *(f"{value:,.0f}" for value in row["sent"].values()),
        )
        for what, group in found.items()
        for row in group
    ]  # fmt: skip
    headings = ["varied", "model", "parameters", "N", "side, px", "ms a step and member"]
    headings += ["MiB a member", *(f"bytes a step: {name}" for name in SENDERS)]
    text = "\n".join(
        [
            "# How cost grows",
            "",
            f"Batches of {BATCH}, SGD with momentum; ResNet-18 by its first stage's channels (8, "
            "16, 32, 64) and ResNet-50. Times are medians of the whole loop.",
            f"Machine: {machine()}. "
            "Command: `python benchmarks/growth.py --out benchmarks/results`.",
            "",
            "![growth: time, memory and bytes](growth.png)",
            "",
            markdown.table(headings, rows, "ll" + "r" * 7),
        ]
    )
    write(str(given.out / "growth.md") if given.out else None, text)
    if given.out:
        about = {"machine": machine(), "measured": found}
        (given.out / "growth.json").write_text(json.dumps(about, indent=1) + "\n")
        with style.styled():
            drawn(found).savefig(given.out / "growth.png", dpi=150)


if __name__ == "__main__":
    main()
