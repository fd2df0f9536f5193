"""--eval-average-every: what members average to; report --target: when it was reached."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from tests.support.records import STEPS, write_cell
from tests.support.runs import assert_same_bits, entries_of, records_of, stop_after_an_epoch
from wash_bench.cli.main import run_command
from wash_bench.config import RunConfig
from wash_bench.report.options import ReportOptions
from wash_bench.report.read import frames
from wash_bench.report.tables.time_to_accuracy import reached, target_tables
from wash_bench.runner.context import RunContext
from wash_bench.runner.experiment import run_experiment
from wash_bench.runner.training_setup import TrainingSetup

MERGED = [f"{name}_val_{score}" for name in ("ensemble", "average", "average_bn")
          for score in ("acc", "nll")]  # fmt: skip


def _events(out: Path) -> list[dict]:
    (log,) = out.glob("trainings/*/events.jsonl")
    return [json.loads(line) for line in log.read_text().splitlines()][1:]


def test_what_members_merge_to_is_logged_and_nothing_else_changes(
    tiny: RunConfig, tmp_path: Path
) -> None:
    looked = tiny.model_copy(update={"merge_every": 2})
    for config, out in ((tiny, tmp_path / "without"), (looked, tmp_path / "with")):
        run_experiment(config, entries_of("wash"), RunContext(out=out, threads=1))
    events = _events(tmp_path / "with")
    assert [row for row in events if row["metric"] not in MERGED] == _events(tmp_path / "without")
    epochs = tiny.training.epochs
    expected = sorted({*range(2, epochs + 1, 2), epochs})
    for metric in MERGED:
        assert [row["epoch"] for row in events if row["metric"] == metric] == expected
    members = [
        {path.name: load_file(path) for path in out.glob("trainings/*/state-*/member-*")}
        for out in (tmp_path / "without", tmp_path / "with")
    ]
    for name, tensors in members[0].items():
        assert all(torch.equal(value, members[1][name][key]) for key, value in tensors.items())
    last = {row["metric"]: row["value"] for row in events if row["epoch"] == epochs}
    assert last["average_val_acc"] == records_of(tmp_path / "with")["wash", 0]["summary"][
        "average_val_acc"
    ]  # fmt: skip


def test_a_look_in_the_middle_is_that_of_the_mean_of_the_weights(
    tiny: RunConfig, tmp_path: Path
) -> None:
    """By hand: the checkpoint's members, averaged in float64, in a network of their own."""
    config = tiny.model_copy(update={"merge_every": 1})
    stop_after_an_epoch(config, entries_of("wash"), tmp_path)
    (state,) = tmp_path.glob("trainings/*/state-1")
    found = [load_file(path) for path in sorted(state.glob("member-*"))]
    mean = {
        key: torch.stack([own[key].double() for own in found]).mean(0).to(found[0][key].dtype)
        for key in found[0]
    }
    setting = TrainingSetup.of(config.training)
    data, model = setting.data, setting.network(0, 0).eval()
    labels, right, each = [], [], []
    with torch.no_grad():
        for images, targets in data.eval_batches("val", 0):
            model.load_state_dict(mean)
            right.append(model(images).argmax(1))
            labels.append(targets)
            shares = []
            for own in found:
                model.load_state_dict(own)
                shares.append(model(images).softmax(1))
            each.append(torch.stack(shares).mean(0).argmax(1))
    accuracy = {
        "average_val_acc": 100 * (torch.cat(right) == torch.cat(labels)).double().mean().item(),
        "ensemble_val_acc": 100 * (torch.cat(each) == torch.cat(labels)).double().mean().item(),
    }
    rows = {row["metric"]: row["value"] for row in _events(tmp_path) if row["epoch"] == 1}
    assert {key: rows[key] for key in accuracy} == pytest.approx(accuracy)


def test_a_resumed_training_has_the_same_looks(tiny: RunConfig, tmp_path: Path) -> None:
    config = tiny.model_copy(update={"merge_every": 1})
    run_experiment(config, entries_of("papa+ema"), RunContext(out=tmp_path / "whole", threads=1))
    stop_after_an_epoch(config, entries_of("papa+ema"), tmp_path / "parts")
    run_experiment(config, entries_of("papa+ema"), RunContext(out=tmp_path / "parts", threads=1))
    assert _events(tmp_path / "parts") == _events(tmp_path / "whole")
    assert_same_bits(tmp_path / "parts", tmp_path / "whole")


def _log(cell: Path, lines: list[tuple[int, str, int | None, float]]) -> None:
    """Replace a training's log: (epoch of 8, metric, member, value)."""
    training = json.loads(cell.read_text())["training_id"]
    rows = [
        {"step": STEPS * epoch // 8, "epoch": epoch, "member": member, "metric": metric,
         "value": value}
        for epoch, metric, member, value in lines
    ]  # fmt: skip
    log = cell.parents[1] / "trainings" / training / "events.jsonl"
    log.write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture
def logged(tmp_path: Path) -> Path:
    out = tmp_path / "runs"
    for seed in (0, 1):
        cell = write_cell(out, "wash", seed)
        lines = [(epoch, "val_acc", member, 10.0 * epoch + 4 * member - 4 + seed)
                 for epoch in range(1, 9) for member in range(3)]  # fmt: skip
        # The average falls again after it was there, and at seed 1 it never is.
        lines += [(2, "average_val_acc", None, 20.0), (4, "average_val_acc", None, 61.0 - 5 * seed)]
        lines += [(6, "average_val_acc", None, 59.0), (8, "average_val_acc", None, 59.0)]
        _log(cell, lines)
    write_cell(out, "papa", 0, status="failed", reason="the loss of member 0 is not finite")
    return out


def test_the_first_epoch_at_the_target_counts(logged: Path) -> None:
    found = reached(frames.load([logged]), 60.0).set_index(["network", "seed"])
    # The members' mean, not the best: 10 a epoch, one point more at seed 1.
    assert found.loc["members", 0]["epoch"] == 6 and found.loc["members", 1]["epoch"] == 6
    assert found.loc["members", 0]["step"] == STEPS * 6 // 8
    assert found.loc["members", 1]["seconds"] == pytest.approx(42.5 * (STEPS * 6 // 8) / STEPS)
    assert found.loc["averaged", 0]["epoch"] == 4
    assert math.isnan(found.loc["averaged", 1]["step"])
    assert set(found.index.get_level_values("network")) == {"members", "averaged"}


@pytest.mark.parametrize(("alone", "epoch"), [(4, 3), (4, 6), (2, 2), (7, 8), (0, 5)])
def test_seconds_count_by_the_members_that_trained(tmp_path: Path, alone: int, epoch: int) -> None:
    """One of three members trains first, as with DART: its epochs take a third of the time."""
    cell = write_cell(tmp_path, "dart", 0)
    lines: list[tuple[int, str, int | None, float]] = []
    for at in range(1, 9):
        lines += [(at, "train_loss", member, 1.0) for member in range(1 if at <= alone else 3)]
        lines.append((at, "val_acc", 0, 90.0 if at >= epoch else 10.0))
    _log(cell, lines)
    records = frames.load([tmp_path])
    (row,) = reached(records, 60.0).to_dict("records")
    work = [1 if at <= alone else 3 for at in range(1, 9)]
    assert row["epoch"] == epoch
    assert row["seconds"] == pytest.approx(41.5 * sum(work[:epoch]) / sum(work))
    records.options = ReportOptions(target=60.0)
    (table,) = target_tables(records)
    assert table.frame()["averaged"].tolist() == ["not watched"]


def test_a_seed_that_never_got_there_is_counted_not_left_out(logged: Path) -> None:
    records = frames.load([logged])
    records.options = ReportOptions(target=60.0)
    (table,) = target_tables(records)
    assert table.columns == ["method", "members", "averaged"]
    ((name, members, averaged),) = [[cell.text for cell in row] for row in table.rows]
    assert (name, members, averaged) == ("wash", "1,122 (31.5 s)", "1 of 2 seeds")


def test_the_report_has_the_table_in_every_form(logged: Path, tmp_path: Path, capsys) -> None:
    command = ["report", str(logged), "--out", str(tmp_path / "report"), "--figures", "training"]
    assert run_command([*command, "--target", "60"]) == 0
    assert "1,122 (31.5 s)" in capsys.readouterr().out
    for name in ("report.html", "table.md"):
        text = (tmp_path / "report" / name).read_text(encoding="utf-8")
        assert "1,122 (31.5 s)" in text.replace("\xa0", " ")
    frame = pd.read_csv(tmp_path / "report/target.csv")
    assert list(frame["epoch"].dropna()) == [6, 4, 6]
    with_line = (tmp_path / "report/training.svg").read_bytes()
    assert run_command(command) == 0
    assert not (tmp_path / "report/target.csv").exists()
    assert (tmp_path / "report/training.svg").read_bytes() != with_line


@pytest.mark.fault(
    "Records and reports", "`report --target` that is no accuracy in per cent", "one line"
)
@pytest.mark.parametrize("target", ["0", "-3", "101", "nan", "inf"])
def test_what_is_no_accuracy_is_refused(logged: Path, tmp_path: Path, capsys, target: str) -> None:
    out = tmp_path / "report"
    assert run_command(["report", str(logged), "--out", str(out), "--target", target]) == 2
    assert "an accuracy in per cent" in capsys.readouterr().err
    assert not out.exists()
