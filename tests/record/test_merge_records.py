"""Run folders of several machines become one, and the sources stay as they were."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from tests.support.records import write_cell
from wash_bench.cli.main import run_command
from wash_bench.errors import UsageError, WashBenchError
from wash_bench.record import join
from wash_bench.record.join import join_folders
from wash_bench.record.store import Store
from wash_bench.report.read import frames


def trained(folder: Path, method: str, seed: int, *, weights=None, finished=True, **more) -> Path:
    """A cell with the state of its training; returns the training's folder."""
    cell = json.loads(write_cell(folder, method, seed, **more).read_text())
    training = folder / "trainings" / cell["training_id"]
    state = training / "state-8"
    state.mkdir(exist_ok=True)
    values = np.full(4, seed if weights is None else weights, dtype=np.float32)
    save_file({"w": values}, state / "member-0.safetensors")
    about = {"epoch": 8, "finished": finished, "folder": state.name, "notes": {}}
    (training / "state.json").write_text(json.dumps(about))
    if not finished:
        (folder / "cells" / f"{cell['cell_id']}.json").unlink()
    return training


def contents(folder: Path) -> dict[str, tuple[bytes, int]]:
    """Every file of a folder with its bytes and its time."""
    return {
        str(path.relative_to(folder)): (path.read_bytes(), path.stat().st_mtime_ns)
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.fixture
def machines(tmp_path) -> tuple[Path, Path]:
    """Two hosts; one cell and its training are on both."""
    one, other = tmp_path / "one", tmp_path / "other"
    for seed in (0, 1):
        trained(one, "wash", seed)
    for method, seed in (("wash", 1), ("papa", 0), ("greedy-soup", 0), ("naive-ensemble", 0)):
        trained(other, method, seed)
    (other / "trainings" / "papa-extra").mkdir()
    return one, other


def test_everything_is_there_once_and_sources_are_untouched(machines, tmp_path):
    before = [contents(folder) for folder in machines]
    out = tmp_path / "all"
    joined = join_folders(machines, out)
    # Greedy soup and naive ensemble share a training; papa-extra is one that has just begun.
    assert (joined.cells, joined.trainings, joined.equal) == (5, 5, 2)
    assert joined.conflicts == []
    assert [contents(folder) for folder in machines] == before
    records = frames.load([out])
    cells = set(zip(records.summary["method"], records.summary["seed"], strict=True))
    assert cells == {
        *(("wash", 0), ("wash", 1), ("papa", 0), ("greedy-soup", 0), ("naive-ensemble", 0))
    }
    # Each training came with its events and barrier; nothing is left of the copying.
    assert records.events["training_id"].nunique() == 4
    assert not list(out.glob(".merge-*"))
    again = join_folders(machines, out)
    assert (again.cells, again.trainings, again.conflicts) == (0, 0, [])


def test_what_the_target_writes_later_does_not_reach_the_sources(machines, tmp_path):
    before = [contents(folder) for folder in machines]
    out = tmp_path / "all"
    join_folders(machines, out)
    for training in (out / "trainings").iterdir():
        if (training / "events.jsonl").exists():
            with (training / "events.jsonl").open("ab") as log:  # as a resumed training does
                log.truncate(10)
                log.write(b"more")
        folder = Store(out).training(training.name)
        folder.set_status("running")
    assert [contents(folder) for folder in machines] == before


def test_weights_are_shared_on_the_disk_and_copied_where_they_cannot(
    machines, tmp_path, monkeypatch
):
    join_folders(machines, tmp_path / "linked")
    (weights,) = (tmp_path / "linked").glob("trainings/papa-s0*/state-8/member-0.safetensors")
    assert weights.stat().st_nlink == 2
    (log,) = (tmp_path / "linked").glob("trainings/papa-s0*/events.jsonl")
    assert log.stat().st_nlink == 1

    def other_disk(*paths):
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", other_disk)
    join_folders(machines, tmp_path / "copied")
    assert {name: data for name, (data, _) in contents(tmp_path / "copied").items()} == {
        name: data for name, (data, _) in contents(tmp_path / "linked").items()
    }


def test_times_alone_are_no_conflict(tmp_path):
    trained(tmp_path / "a", "wash", 0, summary={"train_seconds": 10.0})
    trained(tmp_path / "b", "wash", 0, summary={"train_seconds": 99.0})
    joined = join_folders([tmp_path / "a", tmp_path / "b"], tmp_path / "out")
    assert joined.conflicts == [] and joined.equal == 2


@pytest.mark.fault(
    "Records and reports",
    "two folders that disagree on a cell",
    "one line; the target keeps its own",
)
def test_a_conflict_is_one_line_and_the_targets_stays(tmp_path, capsys):
    trained(tmp_path / "out", "wash", 0, summary={"average_acc": 50.0})
    trained(tmp_path / "b", "wash", 0, summary={"average_acc": 60.0})
    before = contents(tmp_path / "out")
    code = run_command(["merge-records", str(tmp_path / "b"), "--out", str(tmp_path / "out")])
    captured = capsys.readouterr()
    assert code == 0
    (line,) = captured.err.splitlines()
    assert line.startswith("wash-bench: cell wash-s0-") and "other values" in line
    assert "0 cells and 0 trainings added, 1 there already, 1 conflicts" in captured.out
    after = contents(tmp_path / "out")
    assert {name: after[name] for name in before} == before


def test_a_cell_of_other_weights_is_left_out(tmp_path):
    """Greedy soup was read off one training here and off another there: not the same population."""
    kept = trained(tmp_path / "out", "naive-ensemble", 0, weights=1)
    trained(tmp_path / "b", "greedy-soup", 0, weights=2)
    joined = join_folders([tmp_path / "b"], tmp_path / "out")
    assert len(joined.conflicts) == 2
    assert "has other weights" in joined.conflicts[0]
    assert "greedy-soup" in joined.conflicts[1] and "left out" in joined.conflicts[1]
    assert frames.load([tmp_path / "out"]).summary["method"].tolist() == ["naive-ensemble"]
    assert (kept / "state-8" / "member-0.safetensors").exists()


def test_a_finished_training_takes_the_place_of_an_unfinished_one(tmp_path):
    half = trained(tmp_path / "out", "wash", 0, weights=1, finished=False)
    trained(tmp_path / "b", "wash", 0, weights=2)
    joined = join_folders([tmp_path / "b"], tmp_path / "out")
    assert (joined.cells, joined.trainings, joined.conflicts) == (1, 1, [])
    assert json.loads((half / "state.json").read_text())["finished"]
    # And not the other way round.
    trained(tmp_path / "c", "wash", 0, weights=3, finished=False)
    joined = join_folders([tmp_path / "c"], tmp_path / "out")
    assert (joined.cells, joined.trainings) == (0, 0)
    assert json.loads((half / "state.json").read_text())["finished"]


def test_measurements_of_another_evaluation_are_added(tmp_path):
    trained(tmp_path / "out", "wash", 0)
    source = trained(tmp_path / "b", "wash", 0)
    (source / "barrier-abc.csv").write_text("x")
    (source / "evaluation-abc.json").write_text("{}")
    join_folders([tmp_path / "b"], tmp_path / "out")
    (training,) = (tmp_path / "out" / "trainings").iterdir()
    assert (training / "barrier-abc.csv").read_text() == "x"
    assert (training / "evaluation-abc.json").exists()


def test_a_training_that_is_being_written_is_left_out(tmp_path, monkeypatch):
    source = trained(tmp_path / "b", "wash", 0)
    original = shutil.copytree

    def meanwhile(*arguments, **keywords):
        result = original(*arguments, **keywords)
        (source / "state-9").mkdir(exist_ok=True)
        return result

    monkeypatch.setattr(join.shutil, "copytree", meanwhile)
    joined = join_folders([tmp_path / "b"], tmp_path / "out")
    assert "is being written" in joined.conflicts[0] and joined.cells == 0
    assert not list((tmp_path / "out" / "trainings").iterdir())
    assert not list((tmp_path / "out").glob(".merge-*"))


@pytest.mark.fault(
    "Records and reports", "a full disk under `merge-records`", "one line; nothing half copied"
)
def test_a_full_disk_leaves_nothing_half_copied(machines, tmp_path, monkeypatch):
    calls = []

    def full(source, target, **keywords):
        calls.append(source)
        if len(calls) > 3:
            raise OSError(28, "No space left on device")
        return original(source, target, **keywords)

    original = shutil.copy2
    monkeypatch.setattr(join.shutil, "copy2", full)
    with pytest.raises(WashBenchError, match="goes on from what is there") as caught:
        join_folders(machines, tmp_path / "out")
    assert "\n" not in str(caught.value)
    monkeypatch.undo()
    assert not list((tmp_path / "out").rglob(".merge-*"))
    assert join_folders(machines, tmp_path / "out").conflicts == []
    assert len(frames.load([tmp_path / "out"]).summary) == 5


def test_errors_are_one_line_with_the_fix(machines, tmp_path):
    with pytest.raises(UsageError, match="is one of the sources"):
        join_folders(machines, machines[0])
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="no run folder in"):
        join_folders([tmp_path / "empty"], tmp_path / "out")
    with pytest.raises(UsageError, match="no folder"):
        join_folders([tmp_path / "absent"], tmp_path / "out")
    with (
        Store(tmp_path / "out").locked(),
        pytest.raises(WashBenchError, match="another run is using"),
    ):
        join_folders(machines, tmp_path / "out")


@pytest.mark.slow
def test_a_merged_folder_is_gone_on_with(tiny, tmp_path):
    """What one host trained is not trained again in the joined folder; what is new is."""
    from wash_bench.plugins.registry import find_method
    from wash_bench.runner.context import RunContext
    from wash_bench.runner.experiment import run_experiment

    entries = [find_method("naive-ensemble")]
    small = tiny.model_copy(
        update={
            "methods": ("naive-ensemble",),
            "training": tiny.training.model_copy(update={"epochs": 1, "population": 2}),
        }
    )
    for seed, host in ((0, "a"), (1, "b")):
        config = small.model_copy(update={"seeds": (seed,)})
        run_experiment(config, entries, RunContext(out=tmp_path / host))
    join_folders([tmp_path / "a", tmp_path / "b"], tmp_path / "all")
    both = small.model_copy(update={"seeds": (0, 1), "methods": ("naive-ensemble", "greedy-soup")})
    outcome = run_experiment(
        both, [*entries, find_method("greedy-soup")], RunContext(out=tmp_path / "all")
    )
    assert (len(outcome.cached), len(outcome.finished), outcome.failed) == (2, 2, [])


@pytest.mark.fault(
    "Records and reports", "links and pipes in a run folder", "left behind, and named"
)
def test_links_and_pipes_stay_behind(machines, tmp_path, capsys):
    """Nobody's run folder brings a file of this machine along, or makes the command wait."""
    one, _ = machines
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "file").write_text("top-secret")
    training = next((one / "trainings").glob("wash-*"))
    (training / "extra").symlink_to(secret)
    (training / "state-8" / "notes").symlink_to(secret / "file")
    os.mkfifo(training / "waits")
    (one / "trainings" / "linked").symlink_to(secret)
    (one / "cells" / "a.json").symlink_to(secret / "file")
    out = tmp_path / "all"
    joined = join_folders([one], out)
    assert (joined.cells, joined.trainings) == (2, 2)
    assert not any("top-secret" in path.read_text(errors="replace")
                   for path in out.rglob("*") if path.is_file())  # fmt: skip
    assert not [path for path in out.rglob("*") if path.is_symlink() or path.is_fifo()]
    assert len(joined.conflicts) == 5
    for name in ("extra", "notes", "waits", "linked", "a.json"):
        assert any(name in line and "left out" in line for line in joined.conflicts), name
    os.mkfifo(out / "trainings" / training.name / "evaluation-1.json")
    join_folders([out], tmp_path / "again")
