"""What the machine does to a run: no failure of a cell, one line, and the same command goes on."""

from __future__ import annotations

import io
import json
import os
import signal
import sys
from pathlib import Path

import pytest

from tests.support.runs import entries_of
from wash_bench.cli import main
from wash_bench.config import RunConfig
from wash_bench.data.readers import default_data_dir, read_fashion_mnist
from wash_bench.distributed import launch
from wash_bench.errors import WashBenchError
from wash_bench.runner.context import RunContext
from wash_bench.runner.experiment import run_experiment
from wash_bench.train.engine import Engine

FAILURES = [
    (RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: no"), "out of memory"),
    (MemoryError(), "out of memory"),
    (RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed."), "reads images"),
    (RuntimeError("unable to allocate shared memory(shm) for file"), "reads images"),
]


@pytest.mark.fault(
    "The machine",
    "out of memory, a loader killed, no shared memory",
    "one line, exit 1; no cell is booked as failed",
)
@pytest.mark.slow
@pytest.mark.parametrize(("failure", "said"), FAILURES, ids=lambda value: str(value)[:20])
def test_it_is_told_in_a_line_and_no_cell_fails(
    failure: Exception, said: str, tiny: RunConfig, tmp_path: Path, monkeypatch
) -> None:
    def broken(*_) -> None:
        raise failure

    context = RunContext(out=tmp_path, threads=1)
    with monkeypatch.context() as patch:
        patch.setattr(Engine, "member_step", broken)
        with pytest.raises(WashBenchError, match=said):
            run_experiment(tiny, entries_of("naive-ensemble"), context)
    assert not list(tmp_path.glob("cells/*"))
    short = tiny.model_copy(
        update={"training": tiny.training.model_copy(update={"train_limit": 64, "epochs": 1})}
    )
    assert run_experiment(short, entries_of("naive-ensemble"), context).finished


@pytest.mark.fault(
    "Numbers and methods", "shapes that do not fit in a step", "the cell fails with the error"
)
def test_another_error_of_torch_is_a_failure_of_the_cell(
    tiny: RunConfig, tmp_path: Path, monkeypatch
) -> None:
    def broken(*_) -> None:
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    monkeypatch.setattr(Engine, "member_step", broken)
    outcome = run_experiment(
        tiny, entries_of("naive-ensemble"), RunContext(out=tmp_path, threads=1)
    )
    assert [reason.partition(":")[0] for _, reason in outcome.failed] == ["RuntimeError"]
    (record,) = (json.loads(path.read_text()) for path in tmp_path.glob("cells/*"))
    assert record["status"] == "failed"


@pytest.mark.fault("The machine", "no home directory", "one line that names `--data-dir`")
def test_without_a_home_data_dir_is_named_and_used(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)

    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", homeless)
    monkeypatch.setattr("wash_bench.data.readers.DEBIAN_FOLDER", tmp_path / "none")
    with pytest.raises(WashBenchError, match="--data-dir"):
        default_data_dir()
    with pytest.raises(WashBenchError, match="Fashion-MNIST is not in"):
        read_fashion_mnist(tmp_path, False)


@pytest.mark.fault("The machine", "no standard output", "the command does its work")
def test_no_standard_output_is_needed(monkeypatch) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    assert main.run_command(["methods", "wash"]) == 0


@pytest.mark.fault("The machine", "a terminal of another encoding", "signs it lacks are replaced")
@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252"])
def test_any_terminal_shows_what_it_can(encoding: str, reported: Path, monkeypatch) -> None:
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding=encoding))
    assert main.run_command(["compare", str(reported), str(reported)]) == 0
    sys.stdout.flush()
    assert b"wash" in written.getvalue()


@pytest.mark.fault("The machine", "the terminal closed under nohup", "the run continues")
def test_hanging_up_does_not_end_what_nohup_started() -> None:
    before = signal.getsignal(signal.SIGHUP)
    try:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        assert launch._under_nohup()
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
        assert not launch._under_nohup()
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.fault(
    "The machine", "a job that may use some of the cores", "threads and jobs are counted by those"
)
def test_the_cores_are_those_of_the_job(monkeypatch) -> None:
    from wash_bench.cores import cores

    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    assert cores() == len(os.sched_getaffinity(0))
