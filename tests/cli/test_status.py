"""What ``wash-bench status`` tells of a run folder, before, while and after it is worked on."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.cli.test_light_imports import after
from tests.support.command import command
from tests.support.records import write_cell
from tests.support.runs import entries_of, stop_after_an_epoch
from tests.support.shared_folder import made_once
from wash_bench.config import RunConfig
from wash_bench.record.locks import hold
from wash_bench.record.status import CellStatus, status_of
from wash_bench.runner.context import RunContext
from wash_bench.runner.experiment import run_experiment

ME = f"{socket.gethostname()}, process {os.getpid()}"
METHODS = ("wash", "greedy-soup", "naive-ensemble")


def by_method(out: Path) -> dict[str, CellStatus]:
    return {cell.method: cell for cell in status_of(out).cells}


@pytest.fixture(scope="module")
def stopped(tiny_module: RunConfig, tmp_path_factory) -> Path:
    """WASH was broken off after an epoch; the others had not begun."""
    config = tiny_module.model_copy(
        update={"training": tiny_module.training.model_copy(update={"epochs": 3})}
    )

    def make(out: Path) -> None:
        stop_after_an_epoch(config, entries_of(*METHODS), out)
        (out / "config.json").write_text(config.model_dump_json())

    return made_once(tmp_path_factory, "stopped-for-status", make)


@pytest.fixture
def folder(stopped: Path, tmp_path: Path) -> Path:
    return shutil.copytree(stopped, tmp_path / "runs")


def test_a_run_that_was_stopped_waits_where_its_checkpoint_is(folder: Path) -> None:
    found = status_of(folder)
    cells = by_method(folder)
    assert found.counts == {"finished": 0, "running": 0, "waiting": 3, "failed": 0}
    assert found.workers == ()
    assert (cells["wash"].epoch, cells["wash"].epochs, cells["wash"].worker) == (1, 3, "")
    assert (cells["greedy-soup"].epoch, cells["greedy-soup"].seconds_left) == (0, None)
    (state,) = folder.glob("trainings/*/state.json")
    spent = json.loads(state.read_text())["notes"]["train_seconds"]
    assert cells["wash"].seconds_left == pytest.approx(2 * spent)
    # Two trainings, of which one is known; nobody works, so one after the other.
    assert found.seconds_left == pytest.approx(2 * 2 * spent)


@pytest.mark.slow
def test_while_a_run_goes_on_its_process_is_told_and_what_is_done_counts(
    folder: Path, monkeypatch
) -> None:
    config = RunConfig.model_validate_json((folder / "config.json").read_text())
    seen: list[dict[str, CellStatus]] = []
    trainings: set[tuple[str, str]] = set()

    def observe(progress) -> None:
        key = (progress.training, progress.status)
        if progress.status in ("training", "evaluating") and key not in trainings:
            trainings.add(key)
            seen.append(by_method(folder))

    run_experiment(
        config, entries_of(*METHODS), RunContext(out=folder, threads=1, observer=observe)
    )
    of_wash = [cells for cells in seen if cells["wash"].status == "running"]
    assert {cells["wash"].worker for cells in of_wash} == {ME}
    assert all(cells["naive-ensemble"].status == "waiting" for cells in of_wash)
    assert any(cells["wash"].epoch == 3 for cells in of_wash)  # it is evaluated
    later = [cells for cells in seen if cells["naive-ensemble"].status == "running"]
    assert later and all(cells["wash"].status == "finished" for cells in later)
    assert all(cells["greedy-soup"].worker == ME for cells in later)
    assert status_of(folder).counts["finished"] == 3
    assert (status_of(folder).seconds_left, status_of(folder).workers) == (0.0, ())


def test_owners_are_told_with_what_they_hold(folder: Path) -> None:
    training = by_method(folder)["greedy-soup"].training_id
    with hold(folder, training):
        assert status_of(folder).workers == ((ME, training),)
        cells = by_method(folder)
        assert {cells[name].status for name in ("greedy-soup", "naive-ensemble")} == {"running"}
        assert (cells["wash"].status, cells["naive-ensemble"].worker) == ("waiting", ME)
    assert by_method(folder)["greedy-soup"].status == "waiting"
    # A killed process leaves the file that names it.
    (folder / "locks" / f"{training}.json").write_text(json.dumps({"host": "far", "pid": 7}))
    assert by_method(folder)["greedy-soup"].status == "waiting"


def test_failed_cells_and_those_of_older_folders(tmp_path: Path, capsys) -> None:
    write_cell(tmp_path, "wash", 0)
    write_cell(tmp_path, "papa", 0, status="failed", reason="loss is\nnot finite", summary={})
    code, told, err = command(capsys, "status", str(tmp_path), "--json")
    assert (code, err) == (0, "")
    (found,) = json.loads(told)["folders"]
    assert found["counts"] == {"finished": 1, "running": 0, "waiting": 0, "failed": 1}
    cells = {cell["method"]: cell for cell in found["cells"]}
    assert cells["papa"]["reason"] == "loss is not finite"
    code, told, _ = command(capsys, "status", str(tmp_path))
    assert "1 finished, 1 failed of 2 cells" in told and "loss is not finite" in told
    assert "left" not in told.splitlines()[0]


def test_a_folder_of_run_folders_and_none(folder: Path, tmp_path: Path, capsys) -> None:
    write_cell(tmp_path / "more", "wash", 0)
    told = json.loads(command(capsys, "status", str(tmp_path), "--json")[1])
    assert [Path(each["folder"]).name for each in told["folders"]] == ["more", "runs"]
    (tmp_path / "empty").mkdir()
    for name in ("empty", "gone"):
        code, out, err = command(capsys, "status", str(tmp_path / name))
        assert (code, out, err.count("\n")) == (2, "", 1)


def test_status_changes_nothing_and_imports_nothing_heavy(folder: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    heavy, told = after(["status", str(folder)])
    assert heavy == [] and "3 waiting of 3 cells" in told
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before


@pytest.mark.slow
def test_many_cells_are_read_soon(tmp_path: Path) -> None:
    for seed in range(200):
        write_cell(tmp_path, "wash", seed)
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "wash_bench", "status", str(tmp_path)],
        capture_output=True,
        text=True,
    )
    assert "200 finished" in done.stdout, done.stderr
    assert time.monotonic() - began < 5  # 0.5 s on a machine that is not busy
