"""Run folders whose files changed on the disk: told, and never taken for what was written."""

from __future__ import annotations

import json
import shutil
import signal
import time
from pathlib import Path

import pytest

from tests.support.command import Command
from tests.support.records import write_cell
from tests.support.runs import assert_same_bits, entries_of, stop_after_an_epoch
from wash_bench.config import RunConfig
from wash_bench.errors import UsageError, WashBenchError
from wash_bench.models.checkpoint_file import read_file
from wash_bench.networks.inspect import find
from wash_bench.record.store import ManifestCell, Store, read_manifest, write_manifest
from wash_bench.report.read.frames import load
from wash_bench.runner.context import RunContext
from wash_bench.runner.experiment import run_experiment


def _config(tiny: RunConfig) -> RunConfig:
    return tiny.model_copy(update={"training": tiny.training.model_copy(update={"epochs": 3})})


def _run(config: RunConfig, out: Path, observe=lambda progress: None):
    return run_experiment(
        config, entries_of("papa"), RunContext(out=out, threads=1, observer=observe)
    )


@pytest.fixture(scope="module")
def whole(tiny_module: RunConfig, tmp_path_factory) -> Path:
    """An undisturbed run of three epochs."""
    out = tmp_path_factory.mktemp("whole")
    _run(_config(tiny_module), out)
    return out


@pytest.fixture(scope="module")
def stopped(tiny_module: RunConfig, tmp_path_factory) -> Path:
    """The same, broken off in its third epoch: a state, and the one before it."""
    out = tmp_path_factory.mktemp("stopped")
    stop_after_an_epoch(_config(tiny_module), entries_of("papa"), out, epochs=2)
    return out


def _flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) * 2 // 3] ^= 16
    path.write_bytes(bytes(data))


def _halve(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _empty(path: Path) -> None:
    path.write_text("{}")


def _no_notes(path: Path) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | {"notes": {}}))


@pytest.mark.fault(
    "Damaged run folders",
    "a byte of a checkpoint flipped, a file of it cut or gone, its pointer emptied",
    "one line; resumes from the state before it, or anew, to the same bits",
)
@pytest.mark.parametrize(
    ("name", "damage", "said"),
    [
        ("state-2/member-0.safetensors", _flip, "goes on from epoch 1"),
        pytest.param("state-2/optimizer-1.safetensors", _flip, "goes on from epoch 1",
                     marks=pytest.mark.slow),
        pytest.param("state-2/member-2.safetensors", _halve, "goes on from epoch 1",
                     marks=pytest.mark.slow),
        pytest.param("state-2/member-1.safetensors", Path.unlink, "goes on from epoch 1",
                     marks=pytest.mark.slow),
        pytest.param("state.json", _empty, "trained anew", marks=pytest.mark.slow),
        pytest.param("state.json", _no_notes, "trained anew", marks=pytest.mark.slow),
    ],
)  # fmt: skip
def test_a_damaged_state_is_told_and_the_bits_stay(
    tiny, whole, stopped, tmp_path, capsys, name, damage, said
) -> None:
    out = tmp_path / "out"
    shutil.copytree(stopped, out)
    (path,) = out.glob(f"trainings/*/{name}")
    damage(path)
    assert not _run(_config(tiny), out).failed
    err = capsys.readouterr().err
    assert path.name in err and said in err and err.count("\n") == 1
    assert_same_bits(whole, out)
    assert len(list(out.glob("trainings/*/state-*"))) == 1


@pytest.mark.fault("Damaged run folders", "both states damaged", "one line; trained anew")
def test_both_states_damaged_is_a_training_from_its_start(
    tiny, whole, stopped, tmp_path, capsys
) -> None:
    out = tmp_path / "out"
    shutil.copytree(stopped, out)
    for path in out.glob("trainings/*/state-*/member-0.safetensors"):
        _flip(path)
    assert not _run(_config(tiny), out).failed
    assert "trained anew from its start" in capsys.readouterr().err
    assert_same_bits(whole, out)


@pytest.mark.fault(
    "Damaged run folders",
    "a finished member damaged, and another measurement asked for",
    "one line with what to remove, exit 1",
)
def test_a_damaged_finished_member_is_not_measured(tiny, whole, tmp_path) -> None:
    out = tmp_path / "out"
    shutil.copytree(whole, out)
    (path,) = out.glob("trainings/*/state-3/member-1.safetensors")
    _flip(path)
    other = tiny.evaluation.model_copy(update={"ece_bins": 10})
    config = _config(tiny).model_copy(update={"evaluation": other})
    before = sorted(out.glob("cells/*"))
    with pytest.raises(WashBenchError, match=r"member-1\.safetensors.*remove .*papa.*anew"):
        _run(config, out)
    assert sorted(out.glob("cells/*")) == before


@pytest.mark.fault(
    "Damaged run folders",
    "a cell record emptied or of another form",
    "measured again; never counted as finished",
)
@pytest.mark.parametrize(
    "text", ["{}", '{"status": "finished"}', '{"status": "failed"}', "[]", '{"schema": 1}', ""]
)
def test_a_record_of_another_form_is_none(whole, tmp_path, text) -> None:
    (record,) = whole.glob("cells/*.json")
    store = Store(tmp_path / "out")
    (store.root / "cells" / record.name).write_text(text)
    assert store.cell(record.stem) is None
    (store.root / "cells" / record.name).write_bytes(record.read_bytes())
    assert store.cell(record.stem)


@pytest.mark.fault(
    "Damaged run folders",
    "the event log cut or removed between runs",
    "one line; what is lost is not made up",
)
@pytest.mark.parametrize("how", ["cut", "removed"])
def test_lost_events_are_told_and_not_made_up(tiny, stopped, tmp_path, capsys, how) -> None:
    out = tmp_path / "out"
    shutil.copytree(stopped, out)
    (log,) = out.glob("trainings/*/events.jsonl")
    before = log.read_bytes()
    log.unlink() if how == "removed" else log.write_bytes(before[: len(before) // 2])
    _run(_config(tiny), out)
    assert "events up to the checkpoint are lost" in capsys.readouterr().err
    lines = log.read_text().splitlines()
    assert "schema" in json.loads(lines[0])
    assert all(isinstance(json.loads(line), dict) for line in lines)
    assert json.loads(lines[-1])["epoch"] == 3


@pytest.mark.fault("Kills and stops", "temporary files of a killed run", "swept at the next start")
def test_what_a_killed_run_leaves_is_swept(tiny, whole, tmp_path) -> None:
    out = tmp_path / "out"
    shutil.copytree(whole, out)
    (training,) = out.glob("trainings/*")
    left = [
        out / "cells" / ".x.json.abc.part",
        training / ".status.json.abc.part",
        training / "state-3" / ".member-0.safetensors.abc.part",
        out / "report" / ".report-abc" / "table.md",
    ]
    for path in left:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    assert _run(_config(tiny), out).cached
    assert not any(path.exists() for path in left)
    assert not (out / "report" / ".report-abc").exists()


@pytest.mark.fault("Kills and stops", "a second state left by a kill", "swept at the next start")
def test_a_state_that_the_pointer_does_not_name_goes(tiny, whole, tmp_path) -> None:
    out = tmp_path / "out"
    shutil.copytree(whole, out)
    (training,) = out.glob("trainings/*")
    shutil.copytree(training / "state-3", training / "state-2")
    for path in (*out.glob("cells/*"), *training.glob("evaluation-*")):
        path.unlink()  # killed before it was evaluated
    assert _run(_config(tiny), out).finished
    assert [path.name for path in training.glob("state-*")] == ["state-3"]


@pytest.mark.fault(
    "Damaged run folders", "the folder of a training removed while it runs", "one line, exit 1"
)
def test_a_log_that_is_removed_ends_the_run(tiny, tmp_path) -> None:
    def remove(progress) -> None:
        if progress.epoch > 1:
            for path in tmp_path.glob("trainings/*/events.jsonl"):
                path.unlink()

    with pytest.raises(WashBenchError, match="was removed while its training ran"):
        _run(_config(tiny), tmp_path, remove)
    assert not list(tmp_path.glob("cells/*"))


@pytest.mark.fault(
    "Records and reports",
    "text, 250 % or a number without bound in a record",
    "left out, named by file and key; the report is of the rest",
)
@pytest.mark.parametrize(
    ("place", "value", "said"),
    [
        ("summary/average_acc", "93.5x", "summary.average_acc"),
        ("summary/average_acc", 250, "250 %"),
        ("summary/average_acc", True, "no number"),
        ("summary/average_acc", int("1" + "0" * 400), "no number"),
        ("summary/model", "x", "no metric"),
        ("config/training/lr", "fast", "'config.training' lacks lr"),
        ("config/training/model", [[]], "config.training.model"),
        ("config/evaluation/barrier_images", [1], "config.evaluation.barrier_images"),
        ("config/coupling", "x", "config.coupling"),
        ("reason", [1], "'reason'"),
        ("options", 1, "'options'"),
        ("training_id", "\ud800", "no Unicode"),
    ],
)
def test_a_record_with_a_value_that_cannot_be_is_left_out(tmp_path, place, value, said) -> None:
    write_cell(tmp_path, "papa", 0)
    path = write_cell(tmp_path, "wash", 0)
    record = json.loads(path.read_text())
    *parts, last = place.split("/")
    inner = record
    for part in parts:
        inner = inner[part]
    inner[last] = value
    path.write_text(json.dumps(record))
    records = load([tmp_path])
    assert list(records.summary["method"]) == ["papa"]
    (problem,) = [text for text in records.warnings if path.name in text]
    assert said in problem and problem.endswith(", left out")


def _other_digit(path: Path, after: str) -> None:
    """Change a digit of the number that stands after a text."""
    text = path.read_text()
    at = next(i for i in range(text.index(after) + len(after), len(text)) if text[i] in "12345678")
    path.write_text(f"{text[:at]}{int(text[at]) + 1}{text[at + 1 :]}")


@pytest.mark.fault(
    "Damaged run folders",
    "a digit changed in a record, its log or its points",
    "`run` measures again; `report` leaves it out and names the file",
)
def test_a_changed_digit_is_noticed(tiny: RunConfig, whole: Path, tmp_path: Path) -> None:
    out = shutil.copytree(whole, tmp_path / "runs")
    (cell,) = out.glob("cells/*.json")
    (training,) = out.glob("trainings/*")
    (evaluation,) = training.glob("evaluation-*.json")
    (points,) = training.glob("barrier-*.csv")
    before = json.loads(cell.read_text())["summary"]
    untouched = load([out])
    assert untouched.warnings == [] and len(untouched.events) and len(untouched.barrier)

    for path, after in ((training / "events.jsonl", '"value": '), (points, "loss,accuracy")):
        _other_digit(path, after)
    records = load([out])
    for path in (training / "events.jsonl", points):
        assert f"{path}: its bytes are not those that were written, left out" in records.warnings
    assert records.events.empty and records.barrier.empty and len(records.summary) == 1

    _other_digit(evaluation, '"average_nll": ')
    _other_digit(cell, '"average_nll": ')
    with pytest.raises(WashBenchError, match="its checksum differs"):
        load([out])
    assert len(_run(_config(tiny), out).finished) == 1
    after = json.loads(cell.read_text())["summary"]
    assert {k: v for k, v in after.items() if "seconds" not in k} == {
        k: v for k, v in before.items() if "seconds" not in k
    }


@pytest.mark.fault(
    "Damaged run folders",
    "a bit flipped in a network that a run delivers",
    "`merge`, `export`, `eval` and `--init` refuse it by name",
)
@pytest.mark.parametrize("name", ["average.safetensors", "state-*/member-1.safetensors"])
def test_a_changed_network_is_refused(whole: Path, tmp_path: Path, name: str) -> None:
    (training,) = shutil.copytree(whole, tmp_path / "runs").glob("trainings/*")
    (path,) = training.glob(name)
    assert read_file(path, "a network")[0]
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)
    with pytest.raises(UsageError, match=r"^a network: its weights are not those"):
        read_file(path, "a network")


@pytest.mark.fault(
    "Damaged run folders",
    "a digit changed in where a training ran, or in its settings",
    "`report` leaves it out and names it; `merge` refuses it; a run that resumes says so",
)
def test_changed_surroundings_are_noticed(whole: Path, tmp_path: Path) -> None:
    out = shutil.copytree(whole, tmp_path / "runs")
    (training,) = out.glob("trainings/*")
    environment, settings = training / "environment.json", training / "training.json"
    _other_digit(environment, '"torch": ')
    _other_digit(settings, '"lr": ')
    records = load([out])
    (told,) = records.warnings
    assert told.startswith(f"{environment}: ") and told.endswith("left out")
    assert "torch" not in records.environments
    assert Store(out).training(training.name).environment_so_far() == {}
    with pytest.raises(UsageError, match="its checksum differs"):
        find(training / "average.safetensors")


@pytest.mark.fault("Kills and stops", "SIGTERM", "one line, exit 143, no temporary file")
@pytest.mark.slow
def test_sigterm_ends_with_a_line(tmp_path) -> None:
    run = Command(
        [
            *("run", "digits", "--methods", "papa", "--seeds", "0", "--epochs", "200"),
            *("--train-limit", "300", "--out", str(tmp_path), "--threads", "1"),
        ]
    )
    while not list(tmp_path.glob("trainings/*/state.json")):
        assert run.poll() is None
        time.sleep(0.05)
    run.send_signal(signal.SIGTERM)
    _, err = run.communicate(timeout=60)
    assert run.returncode == 128 + signal.SIGTERM
    assert err.splitlines()[-1].startswith(
        "wash-bench: stopped by SIGTERM; all that is finished is kept"
    )
    assert not list(tmp_path.rglob("*.part"))


def test_a_changed_list_of_what_was_asked_for_is_not_believed(tmp_path: Path) -> None:
    cell = ManifestCell("cell", "training", "experiment", "wash", 0, "wash", 12)
    write_manifest(tmp_path, [cell])
    assert read_manifest(tmp_path) == (cell,)
    path = tmp_path / "run.json"
    path.write_text(path.read_text().replace("12", "13"))
    assert read_manifest(tmp_path) == ()
