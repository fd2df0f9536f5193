"""``wash-bench verify``: what comes out again to the same bits, and what is told where not."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.support.command import command
from tests.support.runs import SET, entries_of
from tests.support.shared_folder import made_once
from wash_bench.config import RunConfig
from wash_bench.runner.context import RunContext
from wash_bench.runner.experiment import run_experiment
from wash_bench.train import checkpoint

METHODS = ("wash", "naive-ensemble", "greedy-soup")


@pytest.fixture(scope="module")
def trained(tiny_module: RunConfig, tmp_path_factory) -> Path:
    config = tiny_module.model_copy(update={"set": {"wash": SET["wash"]}})
    return made_once(
        tmp_path_factory,
        "trained-to-verify",
        lambda out: run_experiment(config, entries_of(*METHODS), RunContext(out=out, threads=1)),
    )


@pytest.fixture
def folder(trained: Path, tmp_path: Path) -> Path:
    return shutil.copytree(trained, tmp_path / "runs")


def _files(out: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}


def _wash(out: Path) -> tuple[Path, Path]:
    """The cell and the training folder of WASH."""
    (cell,) = out.glob("cells/wash-*.json")
    return cell, out / "trainings" / json.loads(cell.read_text())["training_id"]


def _record(cell: Path) -> dict:
    """A record without the checksum that would give a change away."""
    return {key: value for key, value in json.loads(cell.read_text()).items() if key != "checksum"}


def _verified(capsys, folder: Path, *more: str) -> tuple[int, dict]:
    code, out, _ = command(capsys, "verify", str(folder), "--json", *more)
    (cell,) = json.loads(out)["cells"]
    return code, cell


@pytest.mark.slow
def test_all_of_an_untouched_folder_agrees_and_nothing_is_written(folder: Path, capsys) -> None:
    before = _files(folder)
    code, out, _ = command(capsys, "verify", str(folder), "--epochs", "2")
    assert code == 0, out
    assert out.count("first 2 epochs: the same bits (") == 3
    assert out.count("evaluation: the same bits (") == 3
    assert out.endswith("3 of 3 cells: the same bits\n")
    assert _files(folder) == before


@pytest.mark.slow
def test_a_bit_of_the_log_and_of_the_record_is_seen(folder: Path, capsys) -> None:
    cell, training = _wash(folder)
    events = [json.loads(line) for line in (training / "events.jsonl").read_text().splitlines()]
    loss = next(row for row in events if row.get("metric") == "train_loss" and row["member"] == 1)
    loss["value"] *= 1 + 2**-52
    (training / "events.jsonl").write_text("".join(json.dumps(row) + "\n" for row in events))
    record = _record(cell)
    record["summary"]["average_nll"] *= 1 + 2**-52
    cell.write_text(json.dumps(record))
    environment = json.loads((training / "environment.json").read_text())
    environment["cpu"] = "another processor"
    del environment["checksum"]
    (training / "environment.json").write_text(json.dumps(environment))

    code, found = _verified(capsys, folder, "--cell", "wash")
    assert code == 1 and not found["agrees"]
    (of_training,) = found["training"]["differences"]
    assert of_training["what"] == "train_loss of member 1 after epoch 1"
    (of_evaluation,) = found["evaluation"]["differences"]
    assert of_evaluation["what"] == "average_nll"
    assert [difference["what"] for difference in found["environment"]] == ["cpu"]


@pytest.mark.fault(
    "Damaged run folders",
    "`verify` of records without members, or with a damaged one",
    "what cannot be repeated is said; the rest is held to the record",
)
@pytest.mark.slow
def test_without_members_the_training_alone_is_repeated(folder: Path, capsys) -> None:
    _, training = _wash(folder)
    checkpoint.remove_states(training)
    code, out, _ = command(capsys, "verify", str(folder), "--cell", "wash")
    assert code == 0
    assert f"evaluation: not repeated: its members are not in {training}" in out
    (training / "events.jsonl").unlink()
    code, out, _ = command(capsys, "verify", str(folder), "--cell", "wash")
    assert code == 1
    assert "events.jsonl is not there" in out
    assert "0 of 1 cells: the same bits" in out


@pytest.mark.slow
def test_other_settings_than_the_records_are_named(folder: Path, capsys) -> None:
    """As where an image folder has changed, or a method's file: the identity is another."""
    cell, _ = _wash(folder)
    record = _record(cell)
    record["config"]["training"]["lr"] = 0.051
    cell.write_text(json.dumps(record))
    code, found = _verified(capsys, folder, "--cell", "wash")
    assert code == 1
    assert found["training"]["differences"]
    assert [d["what"] for d in found["environment"]] == ["cell id (settings, data, method)"]


def test_a_folder_without_finished_cells_is_refused(tmp_path: Path, capsys) -> None:
    (tmp_path / "cells").mkdir()
    code, out, err = command(capsys, "verify", str(tmp_path))
    assert (code, out) == (2, "")
    assert err == f"wash-bench: error: no finished cell in {tmp_path}\n"
