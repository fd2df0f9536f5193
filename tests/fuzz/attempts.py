"""Inputs carried out, each watched for what it must not do."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import multiprocessing
import os
import re
import signal
from collections.abc import Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tests.fuzz.case import Case
from tests.fuzz.kinds import KINDS

LIMIT = 60  # seconds that an input may take
CONTROLS = r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]"  # of terminals
NUMBER = re.compile(r"[+-]?[0-9.]+(e[+-]?[0-9]+)?|[+-]?inf")


def make_base(base: Path) -> None:
    """The whole run folder and its report, from which damaged ones are made."""
    from tests.fuzz.networks import make_networks
    from tests.support.records import write_cell
    from wash_bench.report.write import write_report

    for method in ("wash", "papa", "naive-ensemble"):
        for seed in (0, 1):
            write_cell(base / "runs", method, seed, epochs=2)
    write_cell(base / "runs", "dart", 0, status="failed", reason="loss is nan", epochs=2)
    write_report([base / "runs"], base / "report", figures=())
    make_networks(base / "networks")


def attempt(number: int, seed: int, base: Path) -> tuple[int, str, list[str], str]:
    """One input in this process: its number, kind, command line, and what was wrong, or ""."""
    kind = tuple(KINDS)[number % len(KINDS)]
    with TemporaryDirectory(prefix="fuzz-") as work:
        case = Case(number, seed, base, Path(work))
        words = KINDS[kind](case)
        before = _tree(case.given)
        (Path(work) / "here").mkdir()
        os.chdir(Path(work) / "here")
        wrong = _carried_out(words, case.scores) or _formula(case.out)
        if _tree(case.given) != before:
            wrong = wrong or "changed what it was given"
        beside = {path.name for path in Path(work).iterdir()} - {"given", "out", "out.csv", "here"}
        if beside or list((Path(work) / "here").iterdir()):
            wrong = wrong or f"wrote outside its folder: {beside or 'the working folder'}"
        os.chdir("/")
    return number, kind, words, wrong


def _carried_out(words: list[str], scores: Mapping[str, float]) -> str:
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
    texts = [s.buffer.getvalue().decode(errors="replace") for s in (told, erred)]  # type: ignore[attr-defined]
    text = "".join(texts)
    if "internal error" in text or "Traceback" in text:
        return text[-600:]
    if control := re.search(CONTROLS, text):
        return f"printed {control[0]!r}: {text[-300:]!r}"
    if scores and code == 0:
        found = json.loads(texts[0])
        if any(abs(found[name] - value) > 1e-4 for name, value in scores.items()):
            return f"printed {found}, and {dict(scores)} is right"
    return "" if code in (0, 1, 2, 130) else f"ended with {code}"  # 130: where training begins


def _formula(out: Path) -> str:
    """A cell of a CSV file that a spreadsheet would execute, or ""."""
    for path in (*out.rglob("*.csv"), *out.parent.glob("out.csv")):
        with path.open(newline="", encoding="utf-8", errors="replace") as file:
            for cell in (cell for row in csv.reader(file) for cell in row):
                if cell.startswith(("=", "+", "@", "\t", "\r")) and not NUMBER.fullmatch(cell):
                    return f"{path.name} holds the formula {cell[:80]!r}"
    return ""


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

    from wash_bench.errors import Interrupted
    from wash_bench.runner import experiment, plan, verify

    def stop(*arguments: Any, **named: Any) -> Any:
        raise Interrupted("")

    warnings.simplefilter("ignore")
    experiment.run_cells = stop  # type: ignore[assignment]
    verify.verify = stop  # type: ignore[assignment]
    plan.plan_cells = stop  # type: ignore[attr-defined]


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
