"""Ten thousand damaged inputs: each must end in results or one line, and touch nothing else.

``python -m tests.fuzz`` (``make fuzz``) makes inputs from whole ones by changes that a seed draws:
command lines, presets, method files, records with their logs and points, tables. Of each it holds:
no "internal error" and no traceback, exit code 0, 1 or 2, an end within a minute, no change of what
was given, and no file outside the folder that it may write. What would train stops where training
begins. tests/test_fuzz.py runs a few; ``--only N`` repeats one.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import multiprocessing
import os
import random
import shutil
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

LIMIT = 60  # seconds that an input may take
# What stands for a value, a name or a key: bounds, other types, markup, controls, paths, and more.
ODD: tuple[Any, ...] = (
    *(0, -1, 1, 2**31, 2**63, 10**400, 1e308, -0.0, 0.5, 1e-320, float("nan"), float("inf")),
    *("", " ", "0", "nan", "-inf", "1e999", "True", "null", "None", "NA", "#", "=1+1", "a" * 3000),
    *(
        "<script>alert(1)</script>",
        "[bold]x[/]",
        "$x^2$",
        r"\input{/etc/passwd}",
        "|",
        "%s{}",
        "--",
    ),
    *("\x1b[31m", "\x00", "\r\n", "\u202e", "é", "e\u0301", "\ud800", "🧪", "٣", "\ufeff"),
    *("../../outside", "/tmp", ".", "..", "~", "C:\\x", "file:///etc/passwd", "a/b"),
    *(None, True, False, [], {}, [[]], [1, "a", None], {"a": {}}, {"schema": 99}),
)
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


class Case:
    """One input: a folder with what is given, one that may be written, and what was drawn.

    Attributes:
        draw: the source of all that is random.
        given: what the command reads.
        out: what it may write.
    """

    def __init__(self, number: int, seed: int, base: Path, work: Path) -> None:
        self.draw = random.Random(f"{seed}/{number}")
        self.base = base
        self.given, self.out = work / "given", work / "out"
        self.given.mkdir()

    def odd(self) -> Any:
        return self.draw.choice(ODD)

    def text(self) -> str:
        """An odd value as one word of a command line."""
        value = self.odd()
        word = (
            value if isinstance(value, str) else str(value) if value != 10**400 else "1" + "0" * 400
        )
        return word.replace("\x00", "")  # which no system passes on

    def bytes(self, data: bytes) -> bytes:
        """Some bytes changed, cut, doubled or put in."""
        changed = bytearray(data)
        for _ in range(self.draw.choice((1, 1, 2, 5, 20))):
            at = self.draw.randrange(len(changed) + 1)
            match self.draw.randrange(5):
                case 0 if changed:
                    changed[at % len(changed)] = self.draw.randrange(256)
                case 1:
                    del changed[at : at + self.draw.randrange(1, 40)]
                case 2:
                    changed[at:at] = str(self.odd())[:100].encode("utf-8", "surrogatepass")
                case 3:
                    end = at + self.draw.randrange(1, 200)
                    changed[at:at] = changed[at:end]
                case 4:
                    del changed[at:]
        return bytes(changed)

    def json(self, data: Any) -> Any:
        """One place of a JSON value changed."""
        places = list(_places(data))
        if not places:
            return self.odd()
        holder, key = self.draw.choice(places)
        if isinstance(holder, dict) and self.draw.random() < 0.2:
            del holder[key]
        elif isinstance(holder, dict) and self.draw.random() < 0.1:
            holder[str(self.odd())[:200]] = holder.pop(key)
        else:
            holder[key] = self.odd()
        return data

    def damage(self, path: Path, pipes: bool = True) -> None:
        """Change a file, or what it is; into no pipe where a user may name one, as <(command)."""
        try:
            self._damage(path, pipes)
        except (ValueError, IndexError):  # damaged before, and of no form any more
            path.write_bytes(self.bytes(path.read_bytes()))

    def _damage(self, path: Path, pipes: bool) -> None:
        match self.draw.randrange(12):
            case 0:
                path.unlink()
            case 1:
                path.unlink()
                path.mkdir()
            case 2:
                path.unlink()
                path.symlink_to(self.draw.choice(("/etc/hostname", "missing", ".")))
            case 3 if pipes:
                path.unlink()
                os.mkfifo(path)
            case 4 | 5 | 6:
                path.write_bytes(self.bytes(path.read_bytes()))
            case _ if path.suffix == ".json":
                text = json.dumps(self.json(json.loads(path.read_text())))
                path.write_text(text, encoding="utf-8", errors="surrogatepass")
            case _ if path.suffix == ".jsonl":
                lines = path.read_text().splitlines()
                at = self.draw.randrange(len(lines))
                lines[at] = json.dumps(self.json(json.loads(lines[at])))
                path.write_text("\n".join(lines) + "\n", errors="surrogatepass")
            case _:
                rows = [line.split(",") for line in path.read_text().splitlines()]
                row = self.draw.choice(rows)
                row[self.draw.randrange(len(row))] = str(self.odd())[:300]
                text = "\n".join(",".join(row) for row in rows)
                path.write_text(text + "\n", encoding="utf-8", errors="surrogatepass")


def _places(data: Any) -> Iterator[tuple[Any, Any]]:
    """Every key of every object and list inside."""
    items = data.items() if isinstance(data, dict) else enumerate(data)
    for key, value in list(items):
        yield data, key
        if isinstance(value, dict | list):
            yield from _places(value)


# Each kind of input makes files and gives the command line that reads them.


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
    from tests.method_files import METHOD

    path = case.given / "mine.py"
    path.write_bytes(case.bytes(METHOD.encode()))
    name = case.draw.choice(("Mine", "Mine", "Half", "BadOptions", "Picky", case.text()))
    chosen = case.draw.choice(
        ([], ["--set", f"mine.{case.draw.choice(('p', 'every'))}={case.text()}"])
    )
    return ["run", f"--method={path}:{name}", *chosen, f"--out={case.out}"]


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
            ["merge-records", str(runs), str(case.base / "runs"), out],
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
    kind.__name__: kind for kind in (options, presets, method_files, records, tables)
}


def _option_names(found: dict[str, list[str]] = {}) -> dict[str, list[str]]:  # noqa: B006
    if not found:
        import typer.main

        from wash_bench.cli.app import app

        group = typer.main.get_command(app)
        # Of those that would leave the case's folder or its time; downloads reach nothing here.
        apart = ("--out", "--help", "--debug", "--runs", "--tables", "--preset-out", "--worker")
        for name, command in group.commands.items():  # type: ignore[attr-defined]
            context = command.make_context(name, [], resilient_parsing=True)
            names = [
                opt
                for each in command.get_params(context)
                for opt in each.opts
                if opt.startswith("--")
            ]
            found[name] = [opt for opt in names if opt not in apart]
    return found


def make_base(base: Path) -> None:
    """The whole run folder and its report, from which damaged ones are made."""
    from tests.records import write_cell
    from wash_bench.report.write import write_report

    for method in ("wash", "papa", "naive-ensemble"):
        for seed in (0, 1):
            write_cell(base / "runs", method, seed, epochs=2)
    write_cell(base / "runs", "dart", 0, status="failed", reason="loss is nan", epochs=2)
    write_report([base / "runs"], base / "report", figures=())


def attempt(number: int, seed: int, base: Path) -> tuple[int, str, list[str], str]:
    """One input in this process: its number, kind, command line, and what was wrong, or ""."""
    kind = tuple(KINDS)[number % len(KINDS)]
    with TemporaryDirectory(prefix="fuzz-") as work:
        case = Case(number, seed, base, Path(work))
        words = KINDS[kind](case)
        before = _tree(case.given)
        (Path(work) / "here").mkdir()
        os.chdir(Path(work) / "here")
        wrong = _carried_out(words)
        if _tree(case.given) != before:
            wrong = wrong or "changed what it was given"
        beside = {path.name for path in Path(work).iterdir()} - {"given", "out", "out.csv", "here"}
        if beside or list((Path(work) / "here").iterdir()):
            wrong = wrong or f"wrote outside its folder: {beside or 'the working folder'}"
        os.chdir("/")
    return number, kind, words, wrong


def _carried_out(words: list[str]) -> str:
    """What was wrong with how a command ended, or ""."""
    from wash_bench.cli.main import run_command

    told, erred = (io.TextIOWrapper(io.BytesIO(), "utf-8", errors="replace") for _ in range(2))
    code: object = None
    signal.signal(signal.SIGALRM, _too_long)
    signal.alarm(LIMIT)
    try:
        with contextlib.redirect_stdout(told), contextlib.redirect_stderr(erred):
            code = run_command(words)
    except TooLong:
        return f"took more than {LIMIT} s"
    except BaseException as error:
        return f"{type(error).__name__}: {error}"
    finally:
        signal.alarm(0)
    for stream in (told, erred):
        stream.flush()
    text = b"".join(s.buffer.getvalue() for s in (told, erred)).decode(errors="replace")  # type: ignore[attr-defined]
    if "internal error" in text or "Traceback" in text:
        return text[-600:]
    return "" if code in (0, 1, 2, 130) else f"ended with {code}"  # 130: where training begins


class TooLong(BaseException):
    """Past any handler of the program."""


def _too_long(*_: object) -> None:
    raise TooLong


def _tree(folder: Path) -> dict[str, object]:
    """What a folder holds; ``.lock``, which is empty, and the file of a probe aside."""
    found: dict[str, object] = {}
    for path in folder.rglob("*"):
        plain = path.is_file() and not path.is_symlink()
        if path.name not in (".lock", "__pycache__") and path.suffix != ".pyc":
            found[str(path)] = path.read_bytes() if plain else path.is_symlink()
    return found


def stop_before_training() -> None:
    """Let what would train, measure or time end where that begins, in this process."""
    import warnings

    from wash_bench.api import runs
    from wash_bench.errors import Interrupted
    from wash_bench.runner import plan, verify

    def stop(*arguments: Any, **named: Any) -> Any:
        raise Interrupted("")

    warnings.simplefilter("ignore")
    runs.carry_out = stop  # type: ignore[assignment]
    verify.verify = stop  # type: ignore[assignment]
    plan.plan_experiment = runs.plan_experiment = stop  # type: ignore[attr-defined]


def inputs(
    count: int, seed: int, base: Path, side: int = 1
) -> Iterator[tuple[int, str, list[str], str]]:
    """The results of inputs 0 to ``count``, in any order."""
    make_base(base)
    jobs = [(number, seed, base) for number in range(count)]
    # A fresh process now and then: files of methods stay loaded.
    context = multiprocessing.get_context("fork")
    with context.Pool(side, stop_before_training, maxtasksperchild=250) as pool:
        yield from pool.imap_unordered(_attempt, jobs, chunksize=1)


def _attempt(job: tuple[int, int, Path]) -> tuple[int, str, list[str], str]:
    return attempt(*job)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--inputs", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--side", type=int, default=os.cpu_count(), help="inputs at a time")
    parser.add_argument("--only", type=int, help="the number of one input")
    parser.add_argument("--out", type=Path, help="file for the result, Markdown")
    given = parser.parse_args()
    began, counts, wrong = time.monotonic(), Counter[str](), []
    with TemporaryDirectory(prefix="fuzz-") as base:
        if given.only is not None:
            make_base(Path(base))
            stop_before_training()
            print(*attempt(given.only, given.seed, Path(base)), sep="\n")
            return
        for number, kind, words, why in inputs(given.inputs, given.seed, Path(base), given.side):
            counts[kind] += 1
            if why:
                wrong.append(kind)
                print(f"{number} {kind} {words!r}: {why}", flush=True)
    text = (
        "# Damaged inputs\n\n`make fuzz` (seed "
        f"{given.seed}): {sum(counts.values()):,} inputs, {len(wrong)} with a fault, "
        f"{(time.monotonic() - began) / 60:.0f} minutes.\n\n| input | tried | with a fault |\n"
        "| --- | ---: | ---: |\n"
    )
    for kind, make in KINDS.items():
        about = (make.__doc__ or "").partition("\n")[0].rstrip(".")
        text += f"| {about} | {counts[kind]:,} | {wrong.count(kind)} |\n"
    print(text)
    if given.out:
        given.out.write_text(text)
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
