"""The kinds of input: each makes files, and gives the command line that reads them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from functools import cache

from tests.fuzz.case import Case
from tests.fuzz.networks import class_orders, image_files, model_args, weight_files

PRESET = """
description = "a preset"
dataset = "digits"
image-size = 16
model = "test_resnet"
population = 3
seeds = [0, 1]
epochs = 2
lr = 0.05
barrier-points = 5
methods = ["wash", "papa"]
vary = {lr = [0.1, 0.2]}

[set.wash]
p = [0.1, 0.2]

[set.papa]
alpha = 0.9
every = 10
"""


def options(case: Case) -> list[str]:
    """A command line with odd values, unknown names, and options twice."""
    names = _option_names()
    command = case.draw.choice(("run", "run", "plan", "comm", "tune", "report", "paper-table"))
    words = [command] + (["digits"] if case.draw.random() < 0.5 else [])
    for _ in range(case.draw.randint(1, 4)):
        name = case.draw.choice(names[command])
        known = ("wash", "papa", "3", "0.1", "2", "wash.p=0.1", "0,1", "lr=0.1,0.2", "digits")
        value = case.draw.choice(known) if case.draw.random() < 0.4 else case.text()
        words.append(f"{name}={value}" if case.draw.random() < 0.7 else name)
    return [*words, f"--out={case.out}"] if command in ("run", "tune", "report") else words


def presets(case: Case) -> list[str]:
    """A preset whose bytes, or one of whose values, changed."""
    path, text = case.given / "mine.toml", PRESET
    if case.draw.random() < 0.5:
        lines = text.splitlines()
        at = case.draw.choice([i for i, line in enumerate(lines) if " = " in line])
        value = json.dumps(case.odd(), ensure_ascii=case.draw.random() < 0.5)
        lines[at] = f"{lines[at].partition(' = ')[0]} = {value}"
        path.write_bytes("\n".join(lines).encode("utf-8", "surrogatepass"))
    else:
        path.write_bytes(case.bytes(text.encode()))
    preset = ["digits"] if case.draw.random() < 0.5 else []
    return ["run", *preset, f"--preset-file={path}", f"--out={case.out}"]


def method_files(case: Case) -> list[str]:
    """A method's file whose text changed; its name, options and class as they come."""
    from tests.support.method_files import METHOD

    path = case.given / "mine.py"
    path.write_bytes(case.bytes(METHOD.encode()))
    name = case.draw.choice(("Mine", "Mine", "Half", "BadOptions", "Picky", case.text()))
    chosen = case.draw.choice(
        ([], ["--set", f"mine.{case.draw.choice(('p', 'every'))}={case.text()}"])
    )
    return ["run", f"--methods={path}:{name}", *chosen, f"--out={case.out}"]


def records(case: Case) -> list[str]:
    """A run folder with one to three damaged files, read by the commands that read such folders."""
    runs = case.given / "runs"
    shutil.copytree(case.base / "runs", runs)
    for _ in range(case.draw.choice((1, 1, 2, 3))):
        case.damage(case.draw.choice([p for p in sorted(runs.rglob("*")) if p.is_file()]))
    cell = next((path.stem for path in (runs / "cells").glob("wash*")), "wash")
    out = f"--out={case.out}"
    return case.draw.choice(
        (
            ["report", str(runs), "--figures=none", out],
            ["report", str(runs), "--figures=none", out],
            ["report", str(runs), f"--figures={case.draw.choice(('training', 'bytes'))}", out],
            ["status", str(runs)],
            ["status", str(runs), "--json"],
            ["clean", str(runs), "--json"],
            ["compare", str(runs), str(case.base / "runs"), f"{out}.csv"],
            ["export", cell, f"--runs={runs}", out],
            ["verify", str(runs)],
        )
    )


def tables(case: Case) -> list[str]:
    """The tables of reports and of published numbers."""
    if case.draw.random() < 0.3:
        path = case.given / "published.csv"
        path.write_text("table,row,metric,value,sd\ncifar10-resnet18,papa,average_acc,96.1,0.1\n")
        case.damage(path, pipes=False)
        return ["paper-table", "cifar10-resnet18", f"--published={path}", "--plan", "--scale=paper"]
    report = case.given / "report"
    shutil.copytree(case.base / "report", report)
    case.damage(case.draw.choice(sorted(report.glob("*.csv"))))
    return ["compare", str(report), str(case.base / "report"), f"--out={case.out}.csv"]


KINDS: dict[str, Callable[[Case], list[str]]] = {
    kind.__name__: kind
    for kind in (
        *(options, presets, method_files, records, tables),
        *(image_files, class_orders, weight_files, model_args),
    )
}


@cache
def _option_names() -> dict[str, list[str]]:
    import typer.main

    from wash_bench.cli.app import app

    group = typer.main.get_command(app)
    # Of those that would leave the case's folder or its time; downloads reach nothing here.
    apart = ("--out", "--help", "--debug", "--runs", "--tables", "--preset-out", "--worker")
    found = {}
    for name, command in group.commands.items():  # type: ignore[attr-defined]
        context = command.make_context(name, [], resilient_parsing=True)
        names = [
            opt for each in command.get_params(context) for opt in each.opts if opt.startswith("--")
        ]
        found[name] = [opt for opt in names if opt not in apart]
    return found
