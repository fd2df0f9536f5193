"""docs/records.md against what runs write: every file and key is named, and no other."""

from __future__ import annotations

import csv
import itertools
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.torch import load_file

from tests.support.runs import stop_after_an_epoch
from wash_bench.cli.main import run_command
from wash_bench.config import RunConfig
from wash_bench.plugins.registry import find_method, load_method_file
from wash_bench.record.locks import hold
from wash_bench.report.write import write_report
from wash_bench.runner.context import RunContext
from wash_bench.runner.experiment import run_experiment

PAGE = Path(__file__).parents[2] / "docs" / "records.md"
FAILS = """
from wash_bench.methods.naive_ensemble import NaiveEnsemble
class Fails(NaiveEnsemble):
    name = "fails"
    def training_key(self): return {"rule": "fails"}
    def after_step(self, population, exchange, clock): raise ValueError("on purpose")
"""

Path_ = tuple[str, ...]  # of a key


def _expanded(text: str) -> Iterator[str]:
    """``a_{b,c}`` as ``a_b`` and ``a_c``."""
    parts = [part.split(",") for part in re.split(r"[{}]", text)]
    return map("".join, itertools.product(*parts))


def _described() -> dict[str, list[str]]:
    """The keys that the page names, by the pattern of the file."""
    found: dict[str, list[str]] = {}
    for section in re.split(r"^## ", PAGE.read_text(), flags=re.M)[1:]:
        if not section.startswith("`"):
            continue
        rows = re.findall(r"^\| (`.*?`) \|", section, flags=re.M)
        keys = [key for row in rows for quoted in re.findall("`(.*?)`", row)
                for key in _expanded(quoted)]  # fmt: skip
        found[section.split("`")[1]] = keys
    (evaluation,) = (keys for name, keys in found.items() if "/evaluation-" in name)
    (cell,) = (keys for name, keys in found.items() if name == "cells/<cell>.json")
    cell.remove("summary.<evaluation>")
    cell += [
        f"summary.{key}"
        for key in evaluation
        if not key.startswith(("schema", "sha256", "checksum"))
    ]
    return found


def _fits(pattern: str, name: str) -> bool:
    parts = re.split(r"<.*?>", pattern)
    return bool(re.fullmatch("[^/]+".join(map(re.escape, parts)), name))


def _names(key: str, path: Path_) -> bool:
    """Whether a key of the page is the path in a file."""
    parts = key.split(".")
    return len(parts) == len(path) and all(
        bool(re.fullmatch(".+".join(map(re.escape, re.split(r"<.*?>", part))), name, flags=re.S))
        for part, name in zip(parts, path, strict=True)
    )


def _paths(data: Any, path: Path_ = ()) -> Iterator[Path_]:
    """Every key in JSON data, those that hold others before them."""
    if path:
        yield path
    if isinstance(data, dict):
        for key, value in data.items():
            items = value if isinstance(value, list) else []
            if items and all(isinstance(item, dict) for item in items):
                for item in items:
                    yield from _paths(item, (*path, f"{key}[]"))
            else:
                yield from _paths(value, (*path, key))


def _written(path: Path) -> Iterator[Path_]:
    match path.suffix:
        case ".json":
            yield from _paths(json.loads(path.read_text()))
        case ".jsonl":
            for line in path.read_text().splitlines():
                event = json.loads(line)
                yield from _paths(event)
                if "metric" in event:
                    yield (event["metric"],)
        case ".csv":
            with path.open(newline="") as file:
                yield from ((column,) for column in next(csv.reader(file)))
        case ".npz":
            with np.load(path) as arrays:
                yield from ((name,) for name in arrays.files)
        case ".safetensors":
            yield from ((name,) for name in load_file(path))


@pytest.fixture(scope="module")
def folder(tiny_module: RunConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished training with all that can be asked for, a failed one and a stopped one."""
    out = tmp_path_factory.mktemp("records")
    method = out / "fails.py"
    method.write_text(FAILS)
    config = tiny_module.model_copy(
        update={
            "training": tiny_module.training.model_copy(
                update={"vary": {"lr": (0.05, 0.04)}, "train_limit": 96}
            ),
            "evaluation": tiny_module.evaluation.model_copy(
                update={
                    "simplex_points": 2,
                    "test_pool": "rest",
                    "corruptions": ("contrast",),
                    "corruption_severities": (5,),
                    "corruption_images": 20,
                }
            ),
            "merge_every": 1,
        }
    )
    entries = [
        find_method(name) for name in ("wash+ema", "easgd", "lookaround", "single", "distill")
    ]
    entries.append(load_method_file(f"{method}:Fails"))
    outcome = run_experiment(
        config, entries, RunContext(out=out, threads=1, worker=True, log=("csv",))
    )
    assert (len(outcome.finished), len(outcome.failed)) == (5, 1)
    method.unlink()

    (average,) = out.glob("trainings/wash_ema-*/average.safetensors")
    tuned = config.model_copy(
        update={
            "training": config.training.model_copy(
                update={"init": f"checkpoint:{average}", "epochs": 3}
            )
        }
    )

    stop_after_an_epoch(tuned, entries[:1], out, epochs=2)
    members = sorted(average.parent.glob("state-*/member-*.safetensors"))
    data = ["--dataset", config.training.dataset, "--val-share", "0.1", "--barrier-points", "3"]
    merge = ["merge", *map(str, members), *data, "--out", str(out), "--methods", "uniform-soup"]
    assert run_command([*merge, "--threads", "1", "--no-report"]) == 0
    write_report([out], out / "report", figures=(), target=50.0)
    return out


@pytest.mark.slow
def test_every_file_and_no_other_is_described(folder: Path) -> None:
    described = _described()
    with hold(folder, "x"):  # its owner's file is there only then
        files = {path.relative_to(folder).as_posix() for path in folder.rglob("*")
                 if path.is_file() and not path.is_symlink()}  # fmt: skip
    unknown = {name for name in files if not any(_fits(pattern, name) for pattern in described)}
    assert not unknown
    absent = {pattern for pattern in described if not any(_fits(pattern, name) for name in files)}
    assert not absent


def test_every_key_and_no_other_is_described(folder: Path) -> None:
    described = _described()
    with hold(folder, "x"):
        for pattern, keys in described.items():
            if pattern.startswith("report/"):
                continue
            paths: set[Path_] = set()
            for path in folder.rglob("*"):
                if path.is_file() and _fits(pattern, path.relative_to(folder).as_posix()):
                    paths |= set(_written(path))
            absent = {key for key in keys if not any(_names(key, path) for path in paths)}
            assert not absent, pattern
            # A key is named itself, by what holds it, or by all that it holds.
            named = {path for path in paths if any(_names(key, path) for key in keys)}
            held = {path[:end] for path in named for end in range(1, len(path))}
            unknown = {
                path for path in paths - held
                if not any(path[:end] in named for end in range(1, len(path) + 1))
            }  # fmt: skip
            assert not unknown, pattern
