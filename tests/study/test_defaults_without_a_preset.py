"""Without a preset members start from one network, and a coupling left open is rescaled."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.command import command
from tests.support.images import class_folders
from wash_bench.study.resolve import resolve

DATA = {"dataset": "fashion-mnist", "epochs": 2}
METHODS = ("wash", "papa", "dart", "greedy-soup")


def options_of(**options: object) -> dict[str, dict[str, object]]:
    found = resolve(None, None, DATA | {"methods": ",".join(METHODS)} | options)
    return {spec.entry.name: dict(spec.options) for spec in found.specs}


def test_a_start_is_shared_unless_something_says_otherwise(tmp_path: Path) -> None:
    assert resolve(None, None, DATA).config.training.init == "shared"
    for init in ("independent", "shared"):
        assert resolve(None, None, DATA | {"init": init}).config.training.init == init
        own = tmp_path / "own.toml"
        own.write_text(f'dataset = "fashion-mnist"\ninit = "{init}"\n')
        assert resolve(None, own, {}).config.training.init == init
    assert resolve("cifar10-resnet18", None, {}).config.training.init == "independent"


def test_a_coupling_that_nothing_sets_is_rescaled() -> None:
    rescaled = options_of(coupling_budget="paper")
    assert options_of() == rescaled
    assert rescaled["wash"]["p"] > 0.001
    assert options_of(coupling_budget="given")["wash"] == {}


@settings(max_examples=20, deadline=None)
@given(p=st.floats(1e-4, 1.0), every=st.integers(1, 20))
def test_a_coupling_that_is_given_is_taken_as_it_is(p: float, every: int) -> None:
    """That of the other methods is rescaled still."""
    found = options_of(set=[f"wash.p={p}", f"dart.every={every}"])
    assert (found["wash"], found["dart"]["every"]) == ({"p": p}, every)
    assert found["papa"] == options_of()["papa"]


def test_an_option_that_is_no_coupling_leaves_it_rescaled() -> None:
    found = options_of(set=["papa.buffers=false"])["papa"]
    assert found == options_of()["papa"] | {"buffers": False}


@pytest.mark.slow
def test_plan_and_run_warn_of_a_coupling_that_is_too_rare(tmp_path: Path, capsys) -> None:
    images = class_folders(tmp_path / "images", 20, 16, 16, test_count=4)
    run = ["--dataset", f"folder:{images}", "--model=resnet8", "--epochs=4", "--batch-size=10"]
    run += ["--methods=wash,papa,dart", "--seeds=0", "--barrier-points=3", "--threads=1"]
    rare = "wash: a parameter is exchanged"
    code, out, _ = command(capsys, "plan", *run, "--image-size=16", "--set", "wash.p=0.05")
    assert (code, out.count(rare), out.count("a parameter is exchanged")) == (0, 1, 1)
    there = [*run, "--image-size=16", "--out", str(tmp_path / "runs")]
    code, out, _ = command(capsys, "run", *there, "--set", "wash.p=0.05")
    assert (code, out.count(rare)) == (0, 1)
    code, out, err = command(capsys, "plan", *run, "--epochs=12")
    assert (code, out.count("a parameter is exchanged")) == (0, 0)
    assert "--image-size 16 takes 0.5%" in out + err
