"""One experiment worked off by several runs on one folder, and in shards."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pandas as pd
import pytest

from wash_bench.config import RunConfig
from wash_bench.plugins.registry import find_method, load_method_file
from wash_bench.record.locks import hold
from wash_bench.record.store import Store
from wash_bench.report.write import write_report
from wash_bench.runner import experiment
from wash_bench.runner.context import RunContext
from wash_bench.runner.experiment import run_experiment, tasks_of
from wash_bench.study.cells import cells_of


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    Store(tmp_path)
    return tmp_path


@pytest.fixture
def small(tiny: RunConfig) -> RunConfig:
    training = tiny.training.model_copy(update={"train_limit": 96, "population": 2})
    return tiny.model_copy(update={"training": training, "set": {}})


def _entries(*names: str):
    return [find_method(name) for name in names]


def test_a_run_leaves_what_another_holds_and_takes_what_is_free(
    small: RunConfig, folder: Path, monkeypatch
) -> None:
    monkeypatch.setattr(experiment, "PATIENCE", 0.0)
    entries = _entries("wash", "naive-ensemble")
    first, second = tasks_of(cells_of(small, entries))
    with hold(folder, first.training_id):
        outcome = run_experiment(small, entries, RunContext(out=folder, threads=1))
        owner = f"{socket.gethostname()}, process {os.getpid()}"
        assert outcome.held_by_others == [(first.cells[0].cell_id, owner)]
        assert outcome.finished == [second.cells[0].cell_id]
    outcome = run_experiment(small, entries, RunContext(out=folder, threads=1))
    assert (outcome.finished, outcome.cached) == (
        [first.cells[0].cell_id],
        [second.cells[0].cell_id],
    )
    assert not outcome.held_by_others


def test_a_worker_waits_for_what_another_holds(small: RunConfig, folder: Path, capsys) -> None:
    entries = _entries("wash")
    (task,) = tasks_of(cells_of(small, entries))
    begun, done = threading.Event(), threading.Event()

    def other() -> None:
        with hold(folder, task.training_id):
            begun.set()
            done.wait()

    thread = threading.Thread(target=other)
    thread.start()
    begun.wait()
    threading.Timer(1.5, done.set).start()
    outcome = run_experiment(small, entries, RunContext(out=folder, threads=1, worker=True))
    thread.join()
    assert done.is_set() and len(outcome.finished) == 1 and not outcome.held_by_others
    assert capsys.readouterr().err.count("waits for cells that other processes run") == 1


@pytest.mark.slow
@pytest.mark.parametrize("option", [[], ["--worker"], ["--jobs=2"]], ids=["run", "worker", "jobs"])
def test_commands_that_share_a_folder_train_each_cell_once(
    small: RunConfig, tmp_path: Path, option: list[str]
) -> None:
    config = ["--train-limit=96", "--image-size=16", "--val-share=0.1", "--stem=keep"]
    config += ["--batch-size=32", "--population=2", "--device=cpu", "--barrier-points=3"]
    config += ["--seeds=0,1", "--methods=wash,papa,naive-ensemble", "--epochs=2", "--threads=1"]
    command = [sys.executable, "-m", "wash_bench", "run", "digits", *config]
    command += [*option, f"--out={tmp_path}"]
    runs = [
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    told = [run.communicate(timeout=300) for run in runs]
    assert [run.returncode for run in runs] == [0, 0], told
    begun = [
        line.split("]")[0] for out, _ in told for line in out.splitlines() if " evaluating" in line
    ]
    assert sorted(begun) == sorted(
        f"[{name} seed {seed}" for name in ("wash", "papa", "naive-ensemble") for seed in (0, 1)
    )
    assert len(pd.read_csv(tmp_path / "report" / "summary.csv")) == 6


def test_a_retried_failure_is_tried_once(small: RunConfig, folder: Path) -> None:
    method = folder / "poison.py"
    method.write_text(
        "from wash_bench.methods.naive_ensemble import NaiveEnsemble\n"
        "class Poison(NaiveEnsemble):\n"
        "    name = 'poison'\n"
        "    def training_key(self): return {'rule': 'poison'}\n"
        "    def after_step(self, population, exchange, clock): population.weights.fill_(1e30)\n"
    )
    entries = [load_method_file(f"{method}:Poison")]
    for worker in (False, True):
        context = RunContext(out=folder, threads=1, worker=worker)
        first = run_experiment(small, entries, context)
        assert len(first.failed) == 1 and not first.cached
        (record,) = (folder / "cells").iterdir()
        old = record.stat()
        kept = run_experiment(small, entries, context)
        assert kept.failed == first.failed and record.stat() == old
        again = run_experiment(small, entries, context.but(retry_failed=True))
        assert again.failed == first.failed and record.stat().st_mtime_ns > old.st_mtime_ns


@pytest.mark.slow
def test_shards_are_disjoint_and_joined_by_the_report(small: RunConfig, tmp_path: Path) -> None:
    config = small.model_copy(update={"seeds": (0, 1)})
    found = []
    for share in (1, 2, 3):
        entries = _entries("wash", "greedy-soup", "naive-ensemble")
        out = tmp_path / str(share)
        found.append(
            run_experiment(
                config, entries, RunContext(out=out, threads=1, shard=(share, 3))
            ).finished
        )
    # Four trainings: soup and ensemble read one, and stay together.
    assert [len(ids) for ids in found] == [3, 2, 1]
    assert len({cell for ids in found for cell in ids}) == 6
    write_report([tmp_path / str(share) for share in (1, 2, 3)], tmp_path / "report", figures=())
    assert len(pd.read_csv(tmp_path / "report" / "summary.csv")) == 6
