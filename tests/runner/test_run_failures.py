"""Runs that fail or are refused: one line, and the others go on."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.support.runs import entries_of, records_of
from wash_bench.config import RunConfig
from wash_bench.errors import UsageError, WashBenchError
from wash_bench.plugins.registry import load_method_file
from wash_bench.runner.context import RunContext
from wash_bench.runner.experiment import run_experiment


def _file(folder: Path, cls: str, after_step: str) -> Path:
    """A method of independent members, called like its class, with a statement after each step."""
    return _method(
        folder, cls, f"def after_step(self, population, exchange, clock):\n        {after_step}"
    )


def _method(folder: Path, cls: str, body: str) -> Path:
    """The same with any definition of its own."""
    path = folder / f"{cls.lower()}.py"
    path.write_text(
        "from wash_bench.methods.naive_ensemble import NaiveEnsemble\n"
        f"class {cls}(NaiveEnsemble):\n"
        f'    name = "{cls.lower()}"\n'
        f"    def training_key(self): return {{'rule': '{cls.lower()}'}}\n"
        f"    {body}\n"
    )
    return path


@pytest.mark.fault(
    "Numbers and methods", "NaN in a member", "its cell fails by name; the others go on"
)
@pytest.mark.slow
def test_a_diverging_member_fails_its_cell_and_the_others_go_on(
    tiny: RunConfig, tmp_path: Path
) -> None:
    method = _file(tmp_path, "Poison", "population.weights[2].fill_(float('nan'))")
    entries = [load_method_file(f"{method}:Poison"), *entries_of("papa")]
    outcome = run_experiment(tiny, entries, RunContext(out=tmp_path / "out"))
    assert len(outcome.failed) == 1
    assert "member 2 is not finite" in outcome.failed[0][1]
    assert len(outcome.finished) == 1
    records = records_of(tmp_path / "out")
    assert records["poison", 0]["status"] == "failed"
    assert records["papa", 0]["status"] == "finished"
    # Kept as failed, not trained again.
    again = run_experiment(tiny, entries, RunContext(out=tmp_path / "out"))
    assert again.failed == outcome.failed
    assert len(again.cached) == 1


@pytest.mark.fault(
    "Damaged run folders",
    "a run folder that cannot be written",
    "refused in one line before training",
)
def test_a_folder_that_cannot_be_made_is_refused(tiny: RunConfig, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UsageError, match="cannot write to the run folder"):
        run_experiment(tiny, entries_of("papa"), RunContext(out=tmp_path / "file" / "runs"))


@pytest.mark.fault(
    "The machine", "a device that is not there", "refused in one line with those that are"
)
def test_a_device_that_is_not_there_is_refused(tiny: RunConfig, tmp_path: Path) -> None:
    training = tiny.training.model_copy(update={"device": "cuda:77"})
    with pytest.raises(UsageError, match="this machine has: cpu"):
        run_experiment(
            tiny.model_copy(update={"training": training}),
            entries_of("papa"),
            RunContext(out=tmp_path),
        )


@pytest.mark.fault(
    "Numbers and methods",
    "an exception in a method's code",
    "its cell fails with error, file and line; the others continue",
)
@pytest.mark.slow
def test_an_error_in_a_methods_code_fails_its_cell_with_the_place(
    tiny: RunConfig, tmp_path: Path
) -> None:
    method = _file(tmp_path, "Broken", "raise KeyError('beta')")
    entries = [load_method_file(f"{method}:Broken"), *entries_of("papa")]
    outcome = run_experiment(tiny, entries, RunContext(out=tmp_path / "out"))
    ((_, reason),) = outcome.failed
    assert reason == f"KeyError: 'beta' ({method}:6)"
    assert len(outcome.finished) == 1


@pytest.mark.fault(
    "Numbers and methods",
    "a method that ends the program, calls its options wrong, or replaces the population's tensors",
    "its cell fails with the reason; the others continue",
)
@pytest.mark.parametrize(
    ("statement", "reason"),
    [
        ("raise SystemExit(0)", "SystemExit: 0"),
        ("import sys; sys.exit('bye')", "SystemExit: bye"),
        (
            "from wash_bench.errors import UsageError; raise UsageError('give it --epochs 2')",
            "give it --epochs 2",
        ),
        ("population.weights = population.weights.clone()", "puts other tensors in the place"),
        ("population.buffers = population.buffers.clone()", "puts other tensors in the place"),
    ],
)
@pytest.mark.parametrize("jobs", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_whatever_a_method_raises_fails_its_cell_alone(
    tiny: RunConfig, tmp_path: Path, statement: str, reason: str, jobs: int
) -> None:
    method = _file(tmp_path, "Odd", statement)
    entries = [load_method_file(f"{method}:Odd"), *entries_of("naive-ensemble")]
    config = tiny.model_copy(update={"training": tiny.training.model_copy(update={"epochs": 1})})
    context = RunContext(out=tmp_path / "out", threads=1, jobs=jobs)
    outcome = run_experiment(config, entries, context)
    ((_, said),) = outcome.failed
    assert reason in said
    assert len(outcome.finished) == 1


@pytest.mark.fault(
    "Damaged run folders",
    "a full disk",
    "one line, exit 1; finished results stay; the same command resumes",
)
@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="needs root to mount")
def test_a_full_disk_is_one_line_and_costs_no_finished_result(
    tiny: RunConfig, tmp_path: Path
) -> None:
    small = tmp_path / "small"
    small.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", str(small)],
        check=False,
        capture_output=True,
    )
    if mounted.returncode:
        pytest.skip("may not mount a small file system")
    try:
        run_experiment(
            tiny, entries_of("naive-ensemble"), RunContext(out=small)
        )  # 9 MB of rows fit once
        finished = {p: p.read_bytes() for p in small.rglob("*.json") if p.name != "run.json"}
        with pytest.raises(WashBenchError, match="is full; free some space and run the same"):
            run_experiment(tiny, entries_of("papa"), RunContext(out=small))
        for path, content in finished.items():
            assert path.read_bytes() == content
        assert not list(small.rglob("*.part"))
        assert len(list(small.glob("cells/*.json"))) == 1
        again = run_experiment(tiny, entries_of("naive-ensemble"), RunContext(out=small))
        assert len(again.cached) == 1
    finally:
        subprocess.run(["umount", str(small)], check=True)


@pytest.mark.fault(
    "Numbers and methods",
    "a method without a model, with outputs that are no numbers, or that switches gradients off",
    "its cell fails by name; the next training is untouched",
)
@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("def predictors(self, population, judge): return {}", "delivers no model"),
        (
            "def after_step(self, population, exchange, clock): "
            "population.buffers[1] = float('nan')",
            "outputs of member 1 are not numbers",
        ),
        (
            "def after_step(self, population, exchange, clock):\n"
            "        import torch; torch.set_grad_enabled(False)",
            "does not require grad",
        ),
    ],
)
def test_a_method_that_misbehaves_fails_alone(tiny, tmp_path, line, reason) -> None:
    path = _method(tmp_path, "Bad", line)
    training = tiny.training.model_copy(update={"epochs": 1})
    config = tiny.model_copy(update={"training": training})
    entries = [load_method_file(f"{path}:Bad"), *entries_of("papa")]
    outcome = run_experiment(config, entries, RunContext(out=tmp_path / "out"))
    ((_, told),) = outcome.failed
    assert reason in told
    assert len(outcome.finished) == 1
    record = records_of(tmp_path / "out")["bad", 0]
    assert record["status"] == "failed" and record["summary"] == {}
