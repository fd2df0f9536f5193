"""``--log``: what is recorded reaches each writer once, and no writer ends a training."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import ClassVar

import pytest

from tests.support.command import command
from tests.support.runs import stop_after_an_epoch
from wash_bench.config import RunConfig
from wash_bench.errors import UsageError
from wash_bench.loggers import feed as feeding
from wash_bench.loggers.contract import LoggedTraining
from wash_bench.loggers.feed import LogFeed, check_loggers
from wash_bench.plugins.registry import find_method
from wash_bench.record.events import EventLog
from wash_bench.runner.context import RunContext
from wash_bench.runner.experiment import run_experiment

OWN = """
from wash_bench.loggers import Logger

class Lines(Logger):
    def __init__(self, training):
        super().__init__(training)
        self.state = training.state + "+"
        self.path = training.folder.parents[1] / "lines.txt"
        self._write("open", self.state, training.config["training"]["lr"])
    def _write(self, *words):
        with self.path.open("a") as file:
            print(*words, file=file)
    def log(self, step, events):
        self._write(step, *(event.name for event in events if "loss" in event.name))
    def close(self):
        self._write("close")

class Breaks(Lines):
    def log(self, step, events):
        raise ValueError("no\\nroom")
"""


@pytest.fixture(autouse=True)
def _nothing_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feeding, "_SAID", set())


@pytest.fixture
def small(tiny: RunConfig) -> RunConfig:
    less = {"population": 2, "train_limit": 64}
    return tiny.model_copy(update={"training": tiny.training.model_copy(update=less)})


@pytest.fixture
def own(tmp_path: Path) -> str:
    (tmp_path / "own.py").write_text(OWN)
    return str(tmp_path / "own.py")


def recorded(out: Path) -> list[dict]:
    (path,) = out.glob("trainings/*/events.jsonl")
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    return [row for row in rows if row.get("value") is not None]


def table(out: Path) -> list[dict[str, str]]:
    (path,) = out.glob("trainings/*/log.csv")
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def as_text(row: dict) -> dict[str, str]:
    return {key: "" if value is None else str(value) for key, value in row.items()}


def test_a_stopped_run_that_goes_on_repeats_no_step(small: RunConfig, tmp_path: Path, own) -> None:
    out, entries = tmp_path / "runs", [find_method("wash")]
    logs = ("csv", f"{own}:Lines")
    stop_after_an_epoch(small, entries, out, log=logs)
    # The second epoch was logged, but no checkpoint of it is there: it is trained again.
    first = (out / "lines.txt").read_text().splitlines()
    assert first[0] == "open + 0.05" and first[-1] == "close"
    assert not run_experiment(small, entries, RunContext(out=out, log=logs)).failed
    (summary,) = (json.loads(path.read_text())["summary"] for path in out.glob("cells/*.json"))
    rows = [row for row in table(out) if row["epoch"]]
    results = {row["metric"]: row["value"] for row in table(out) if not row["epoch"]}
    assert rows == [as_text(row) for row in recorded(out)]
    assert results["average_acc"] == str(summary["average_acc"])
    assert results["method_acc/wash"] == str(summary["method_acc"])
    lines = (out / "lines.txt").read_text().splitlines()
    assert lines[len(first)] == "open ++ 0.05"  # told what it is
    steps = [line for line in lines if line[0].isdigit()]
    assert steps == [f"{n} train_loss/member-0 train_loss/member-1" for n in (2, 4)]


@pytest.mark.fault(
    "The machine", "a logger of `--log` that fails", "one line; the training continues without it"
)
def test_a_logger_that_throws_is_told_once_and_ends_nothing(
    small: RunConfig, tmp_path: Path, own: str, capsys
) -> None:
    config = small.model_copy(update={"seeds": (0, 1)})
    context = RunContext(out=tmp_path / "runs", log=(f"{own}:Breaks", "csv"))
    assert not run_experiment(config, [find_method("naive-ensemble")], context).failed
    error = capsys.readouterr().err
    assert error.count("own.py:Breaks failed (ValueError: no room)") == 1
    assert len(list((tmp_path / "runs").glob("trainings/*/log.csv"))) == 2


def test_results_of_each_merge_rule_are_sent_once(small: RunConfig, tmp_path: Path, capsys) -> None:
    """Two rules read one training; the second comes later, and `log` sends what a run did not."""
    out = tmp_path / "runs"
    for names in (["naive-ensemble"], ["naive-ensemble", "uniform-soup"]):
        context = RunContext(out=out, log=("csv",))
        assert not run_experiment(small, [find_method(n) for n in names], context).failed
    records = [json.loads(path.read_text()) for path in out.glob("cells/*.json")]
    expected = {
        (f"{key}/{record['method']}" if key.startswith("method_") else key, str(value))
        for record in records
        for key, value in record["summary"].items()
        if key in ("average_acc", "ensemble_nll", "method_acc", "barrier_loss_max")
    }
    sent = [(row["metric"], row["value"]) for row in table(out) if not row["epoch"]]
    assert len(expected) == 5 and expected <= set(sent)
    assert [name for name, _ in sent].count("method_acc/uniform-soup") == 1
    before = table(out)
    assert command(capsys, "log", str(out), "--to", "csv")[0] == 0
    assert table(out) == before
    code, told, _ = command(capsys, "log", str(out), "--to=tensorboard")
    if code == 0:  # where it is installed
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

        assert "1 trainings" in told
        (folder,) = out.glob("trainings/*/tensorboard")
        found = EventAccumulator(str(folder)).Reload()
        for name, value in expected:
            (point,) = found.Scalars(f"results/{name}")
            assert point.value == pytest.approx(float(value), rel=1e-6)
        assert not [tag for tag in found.Tags()["scalars"] if "_layer/" in tag]


def test_layers_are_sent_on_request(tmp_path: Path) -> None:
    lines = {}
    for spec in ("Some", "Some+layers"):
        folder = tmp_path / spec
        folder.mkdir()
        (folder / "own.py").write_text(OWN.replace("Lines", "Some"))
        events, feed = (
            EventLog(folder / "events.jsonl", 0),
            feed_of(folder, f"{folder}/own.py:{spec}"),
        )
        events.add(1, 1, "consensus_layer/conv.loss", 0.5)
        events.add(1, 1, "train_loss", 0.5)
        events.flush()
        feed.send()
        events.close()
        feed.close()
        lines[spec] = (tmp_path.parent / "lines.txt").read_text()
        (tmp_path.parent / "lines.txt").unlink()
    assert "layer" not in lines["Some"] and "consensus_layer/conv.loss" in lines["Some+layers"]


def feed_of(folder: Path, spec: str) -> LogFeed:
    config = {"preset": "x", "training": {"lr": 0.1, "model_args": {}}, "seeds": [0]}
    training = LoggedTraining("wash-s0", "group", folder, config)
    return LogFeed([spec], training, folder / "events.jsonl", pytest.fail)


def two_sessions(folder: Path, spec: str) -> None:
    """Two epochs, the second of which was told of but not kept, and is trained again."""
    keep = 0
    for epochs in ((1, 2), (2, 3)):
        events, feed = EventLog(folder / "events.jsonl", keep), feed_of(folder, spec)
        for epoch in epochs:
            events.add(epoch * 10, epoch, "train_loss", 1 / epoch, 0)
            events.add(epoch * 10, epoch, "lr", float("nan"))
            events.add(epoch * 10, epoch, "wire_bytes", epoch)
            size = events.flush()
            keep = size if epoch == 1 else keep
            feed.send()
        if epochs == (2, 3):
            summary = {"average_acc": 97.5, "method_acc": 98.0, "steps": 30, "nan": float("nan")}
            record = {"cell_id": "c", "evaluation_id": "e", "method": "papa", "summary": summary}
            for _ in range(2):
                feed.finish(record, [folder / "events.jsonl"])
        events.close()
        feed.close()


def test_tensorboard_reads_what_was_logged(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="needs wash-bench[tensorboard]")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    two_sessions(tmp_path, "tensorboard")
    found = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    losses = [(item.step, item.value) for item in found.Scalars("train_loss/member-0")]
    assert losses == [(10, 1.0), (20, 0.5), (30, pytest.approx(1 / 3))]
    results = {"results/average_acc", "results/method_acc/papa", "results/steps"}
    assert set(found.Tags()["scalars"]) == {"train_loss/member-0", "wire_bytes", *results}


def test_wandb_is_told_each_step_in_one_run(tmp_path: Path, monkeypatch) -> None:
    opened, logged = [], []

    class Run:
        id = "abc"

        def log(self, values: dict, step: int) -> None:
            logged.append((step, values))

        def save(self, path: str, base_path: str, policy: str) -> None:
            logged.append((30, path))

        def finish(self) -> None:
            logged.append("finished")

        summary: ClassVar[dict] = {}

    def init(*, project, name, group, dir, config, id, resume, reinit) -> Run:
        opened.append((project, name, group, id, resume, config["training"]["lr"]))
        return Run()

    stand_in = ModuleType("wandb")
    stand_in.init = init  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "wandb", stand_in)
    monkeypatch.delenv("WANDB_PROJECT", raising=False)
    two_sessions(tmp_path, "wandb")
    about = ("wash-bench", "wash-s0", "group")
    assert opened == [(*about, None, None, 0.1), (*about, "abc", "allow", 0.1)]
    values = {"wire_bytes": 1, "train_loss/member-0": 1.0, "epoch": 1}
    assert logged[0] == (10, values)
    assert [item if item == "finished" else item[0] for item in logged] == [
        *(10, 20, "finished"),
        *(30, 30, "finished"),
    ]
    assert Run.summary == {"average_acc": 97.5, "method_acc/papa": 98.0, "steps": 30.0}
    assert logged[-2] == (30, str(tmp_path / "events.jsonl"))


def test_mlflow_is_told_each_step_in_one_run(tmp_path: Path, monkeypatch) -> None:
    calls: list[tuple] = []

    class Client:
        def get_experiment_by_name(self, name: str) -> None:
            calls.append(("experiment", name))

        def create_experiment(self, name: str) -> str:
            return "7"

        def create_run(self, experiment_id: str, tags: dict, run_name: str) -> SimpleNamespace:
            calls.append(("create", experiment_id, tags, run_name))
            return SimpleNamespace(info=SimpleNamespace(run_id="r1"))

        def update_run(self, run_id: str, status: str) -> None:
            calls.append(("again", run_id, status))

        def log_batch(self, run_id: str, metrics=(), params=()) -> None:
            calls.append(("params", {p.key: p.value for p in params})) if params else None
            assert run_id == "r1"
            calls.extend((m.step, m.key, m.value) for m in metrics)

        def log_artifact(self, run_id: str, path: str) -> None:
            calls.append(("file", path, run_id))

        def set_terminated(self, run_id: str) -> None:
            calls.append(("end", run_id))

    stand_in, entities = ModuleType("mlflow"), ModuleType("mlflow.entities")
    stand_in.MlflowClient = Client  # type: ignore[attr-defined]
    entities.Metric = lambda key, value, timestamp, step: SimpleNamespace(  # type: ignore[attr-defined]
        key=key, value=value, step=step
    )
    entities.Param = lambda key, value: SimpleNamespace(key=key, value=value)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "mlflow", stand_in)
    monkeypatch.setitem(sys.modules, "mlflow.entities", entities)
    monkeypatch.delenv("MLFLOW_EXPERIMENT_NAME", raising=False)
    two_sessions(tmp_path, "mlflow")
    assert calls[:3] == [
        ("experiment", "wash-bench"),
        ("create", "7", {"group": "group"}, "wash-s0"),
        ("params", {"preset": "x", "training.lr": "0.1", "seeds": "[0]"}),
    ]
    losses = [call for call in calls if call[1] == "train_loss/member-0"]
    assert [step for step, _, _ in losses] == [10, 20, 30]
    assert calls.count((30, "average_acc", 97.5)) == calls.count((30, "method_acc/papa", 98.0)) == 1
    assert ("file", str(tmp_path / "events.jsonl"), "r1") in calls
    assert calls.count(("end", "r1")) == 2 and ("again", "r1", "RUNNING") in calls


@pytest.mark.parametrize("name", ["tensorboard", "wandb", "mlflow"])
def test_a_library_that_is_not_here_is_told_with_its_extra(name: str, monkeypatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda library: None)
    with pytest.raises(UsageError, match=rf"needs {name}: pip install 'wash-bench\[{name}\]'"):
        check_loggers([name])


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (["cvs"], "did you mean 'csv'?"),
        (["csv,csv"], "csv is given twice"),
        (["absent.py:Mine"], "logger file"),
        (["OWN:Logs"], "has no class 'Logs' that is a subclass"),
        (["OWN:Logger"], "lacks the method(s) log"),
    ],
)
def test_what_is_no_logger_is_told_in_one_line(given, told, own, tmp_path, capsys) -> None:
    options = [f"--log={spec.replace('OWN', own)}" for spec in given]
    code, _, error = command(capsys, "run", f"--out={tmp_path / 'r'}", *options)
    assert code == 2 and told in error and error.count("\n") == 1
    assert not (tmp_path / "r").exists()
