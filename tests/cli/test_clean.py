"""What ``wash-bench clean`` lists and removes, and what it never does."""

from __future__ import annotations

import io
import json
import shutil
import sys
from pathlib import Path

import pytest

from tests.support.command import command
from tests.support.runs import assert_same_bits, entries_of, records_of, stop_after_an_epoch
from tests.support.shared_folder import made_once
from wash_bench.config import RunConfig
from wash_bench.plugins.registry import load_method_file
from wash_bench.record.locks import hold
from wash_bench.report.cache import records_digest
from wash_bench.report.write import write_report
from wash_bench.runner.context import RunContext
from wash_bench.runner.experiment import run_experiment

FAILS = """
from wash_bench.core.wrapper import MergeRule
class Fails(MergeRule):
    name = "fails"
    rule = "theta* = none"
    paper = "none"
    def merge(self, population, judge): raise ValueError("on purpose")
"""


@pytest.fixture(scope="module")
def finished(tiny_module: RunConfig, tmp_path_factory) -> Path:
    """PAPA finished; of the independent members one rule did and one failed."""

    def make(out: Path) -> None:
        (out / "fails.py").write_text(FAILS)
        entries = entries_of("papa", "greedy-soup")
        entries.append(load_method_file(f"{out / 'fails.py'}:Fails"))
        outcome = run_experiment(tiny_module, entries, RunContext(out=out, threads=1))
        assert (len(outcome.finished), len(outcome.failed)) == (2, 1)
        write_report([out], out / "report", figures=())

    return made_once(tmp_path_factory, "finished-for-clean", make)


@pytest.fixture
def folder(finished: Path, tmp_path: Path) -> Path:
    return shutil.copytree(finished, tmp_path / "runs")


def listed(capsys, folder: Path) -> dict[str, list[Path]]:
    before = {path: path.lstat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}
    capsys.readouterr()  # of runs before
    code, told, err = command(capsys, "clean", str(folder), "--json")
    assert (code, err) == (0, "")
    after = {path: path.lstat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}
    locks = folder / "locks"
    assert before == {path: time for path, time in after.items() if path.parent != locks} | {
        path: time for path, time in before.items() if path.parent == locks
    }
    (found,) = json.loads(told)["folders"]
    kinds: dict[str, list[Path]] = {"states": [], "failed": [], "leftovers": []}
    for item in found["items"]:
        path = Path(item["path"])
        kinds[item["kind"]].append(path.relative_to(folder))
        files = [path] if path.is_file() else [each for each in path.rglob("*") if each.is_file()]
        assert item["bytes"] == sum(each.stat().st_size for each in files)
    return kinds


def answer(monkeypatch, text: str) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(text))


def training_of(folder: Path, method: str) -> Path:
    return folder / "trainings" / records_of(folder)[method, 0]["training_id"]


@pytest.mark.slow
def test_members_of_finished_trainings_and_failed_cells_are_listed(folder, capsys) -> None:
    found = listed(capsys, folder)
    assert [path.parent.name for path in found["states"]] == [training_of(folder, "papa").name]
    assert [path.name.split("-")[0] for path in found["failed"]] == ["fails"]
    assert found["leftovers"] == []


@pytest.mark.slow
def test_asked_kind_by_kind_and_what_is_denied_stays(folder, capsys, monkeypatch) -> None:
    state = training_of(folder, "papa") / "state-2"
    answer(monkeypatch, "n\nn\n")
    code, told, _ = command(capsys, "clean", str(folder))
    assert code == 0 and told.count("[y/N]") == 2 and "Nothing removed" in told
    assert state.is_dir()
    answer(monkeypatch, "n\ny\n")
    assert command(capsys, "clean", str(folder))[0] == 0
    assert state.is_dir() and ("fails", 0) not in records_of(folder)
    answer(monkeypatch, "")
    code, _, err = command(capsys, "clean", str(folder))
    assert (code, err.count("\n")) == (2, 1)
    assert "--yes" in err and state.is_dir()


@pytest.mark.slow
def test_the_report_and_the_same_command_need_nothing_of_it(folder, tiny_module, capsys) -> None:
    records = records_of(folder)
    del records["fails", 0]
    table = (folder / "report" / "table.md").read_text()
    assert command(capsys, "clean", str(folder), "--yes")[0] == 0
    assert records_of(folder) == records
    assert not list(training_of(folder, "papa").glob("state*"))
    write_report([folder], folder / "report", figures=())
    now = (folder / "report" / "table.md").read_text()
    assert now == "\n".join(
        line for line in table.splitlines() if not line.startswith("- Failed: fails")
    ) + ("\n" if table.endswith("\n") else "")
    digest = records_digest([folder])
    entries = entries_of("papa", "greedy-soup")
    again = run_experiment(tiny_module, entries, RunContext(out=folder, threads=1))
    assert (len(again.cached), again.finished, again.failed) == (2, [], [])
    assert records_digest([folder]) == digest
    # The failed cell is tried again, and reads the members that were kept for it.
    (members,) = training_of(folder, "greedy-soup").glob("state-2")
    stamps = {path: path.stat().st_mtime_ns for path in members.iterdir()}
    file = load_method_file(f"{folder / 'fails.py'}:Fails")
    once_more = run_experiment(tiny_module, [file], RunContext(out=folder, threads=1))
    assert len(once_more.failed) == 1
    assert {path: path.stat().st_mtime_ns for path in members.iterdir()} == stamps


@pytest.mark.slow
def test_a_method_added_later_trains_the_same_members_again(
    folder, tiny_module, finished, capsys
) -> None:
    assert command(capsys, "clean", str(folder), "--yes")[0] == 0
    entries = entries_of("papa+uniform-soup")
    outcome = run_experiment(tiny_module, entries, RunContext(out=folder, threads=1))
    assert len(outcome.finished) == 1
    member = "state-2/member-1.safetensors"
    first, second = (training_of(root, "papa") / member for root in (folder, finished))
    assert first.read_bytes() == second.read_bytes()


@pytest.mark.slow
def test_what_a_killed_run_left_can_go_and_its_checkpoint_stays(
    tiny_module, tmp_path, capsys
) -> None:
    out, alone = tmp_path / "runs", tmp_path / "alone"
    config = tiny_module.model_copy(
        update={"training": tiny_module.training.model_copy(update={"epochs": 3})}
    )
    entries = entries_of("wash")
    stop_after_an_epoch(config, entries, out, epochs=2)
    (training,) = (out / "trainings").iterdir()
    (training / "state-9").mkdir()
    (training / "state-9" / "member-0.safetensors").write_bytes(b"half")
    (training / ".events.jsonl.0123").write_bytes(b"half")
    (training / "state-2" / ".optimizer-0.safetensors.x.part").write_bytes(b"half")
    (out / ".merge-abc" / "x").mkdir(parents=True)
    (out / "locks" / "dead.json").write_text('{"host": "h", "pid": 1}')
    (out / "claims" / "workers").mkdir(parents=True)
    found = listed(capsys, out)
    assert (found["states"], found["failed"]) == ([], [])
    assert {path.name for path in found["leftovers"]} == {
        "state-9", ".events.jsonl.0123", ".optimizer-0.safetensors.x.part", ".merge-abc",
        "dead.json", "claims",
    }  # fmt: skip
    assert command(capsys, "clean", str(out), "--yes")[0] == 0
    assert sorted(path.name for path in training.glob("state-*")) == ["state-1", "state-2"]
    assert "nothing can go" in command(capsys, "clean", str(out))[1]
    run_experiment(config, entries, RunContext(out=out, threads=1))
    run_experiment(config, entries, RunContext(out=alone, threads=1))
    assert_same_bits(out, alone)


@pytest.mark.slow
def test_members_that_another_training_started_from_stay(folder, tiny_module, capsys) -> None:
    member = training_of(folder, "papa") / "state-2" / "member-0.safetensors"
    start = tiny_module.training.model_copy(update={"init": f"checkpoint:{member}", "epochs": 1})
    config = tiny_module.model_copy(update={"training": start})
    run_experiment(config, entries_of("wash"), RunContext(out=folder, threads=1))
    states = listed(capsys, folder)["states"]
    assert [path.parent.name.split("-")[0] for path in states] == ["wash"]
    assert command(capsys, "clean", str(folder), "--yes")[0] == 0
    assert member.is_file()


@pytest.mark.slow
def test_members_stay_while_a_cell_that_was_asked_for_is_open(folder, capsys) -> None:
    record = records_of(folder)["papa", 0]
    asked = json.loads((folder / "run.json").read_text())
    del asked["checksum"]
    extra = {**asked["cells"][0], "cell_id": "x", "training_id": record["training_id"]}
    (folder / "run.json").write_text(json.dumps(asked | {"cells": [*asked["cells"], extra]}))
    assert listed(capsys, folder)["states"] == []


@pytest.mark.parametrize("option", [(), ("--yes",), ("--json",)])
@pytest.mark.slow
def test_it_refuses_while_a_run_is_on_the_folder(folder, capsys, option) -> None:
    state = training_of(folder, "papa") / "state-2"
    with hold(folder, training_of(folder, "greedy-soup").name):
        code, _, err = command(capsys, "clean", str(folder), *option)
        assert (code, err.count("\n")) == (1, 1)
        assert "a run is using" in err
    assert state.is_dir() and ("fails", 0) in records_of(folder)


@pytest.mark.slow
def test_what_is_no_run_folder_and_what_does_not_go_together(folder, tmp_path, capsys) -> None:
    (tmp_path / "empty").mkdir()
    for given in (["empty"], ["gone"], ["runs", "--yes", "--json"]):
        code, out, err = command(capsys, "clean", str(tmp_path / given[0]), *given[1:])
        assert (code, out, err.count("\n")) == (2, "", 1)
    assert not list((tmp_path / "empty").iterdir())
