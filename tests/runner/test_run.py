"""Runs as a whole: sharing, caching, measuring again, two jobs."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

from tests.support.images import class_folders
from tests.support.runs import SET, assert_same_bits, entries_of, populations_of, records_of
from wash_bench.config import DEFAULT_METHODS, RunConfig
from wash_bench.metrics import FURTHER, SUMMARY
from wash_bench.plugins.registry import load_method_file
from wash_bench.runner.context import RunContext
from wash_bench.runner.experiment import run_experiment, tasks_of
from wash_bench.study.cells import cells_of


@pytest.fixture(scope="module")
def six(tmp_path_factory, request) -> tuple[RunConfig, Path]:
    """All six methods, run once."""
    config = request.getfixturevalue("tiny_module").model_copy(update={"set": SET})
    out = tmp_path_factory.mktemp("six")
    outcome = run_experiment(config, entries_of(*DEFAULT_METHODS), RunContext(out=out))
    assert not outcome.failed
    assert len(outcome.finished) == 6
    return config, out


@pytest.mark.slow
def test_methods_with_one_training_rule_share_one_training(six) -> None:
    _, out = six
    records = records_of(out)
    assert len(records) == 6
    assert len(populations_of(out)) == 5
    naive, greedy = records["naive-ensemble", 0], records["greedy-soup", 0]
    assert naive["training_id"] == greedy["training_id"]
    assert naive["summary"]["ensemble_acc"] == greedy["summary"]["ensemble_acc"]
    assert naive["summary"]["method_predictor"] == "ensemble"
    assert greedy["summary"]["method_acc"] == greedy["summary"]["greedy_acc"]


@pytest.mark.slow
def test_a_finished_run_is_never_trained_again(six) -> None:
    config, out = six
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.is_file()}
    outcome = run_experiment(config, entries_of(*DEFAULT_METHODS), RunContext(out=out))
    assert len(outcome.cached) == 6
    assert not outcome.finished
    after = {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.is_file()}
    before.pop(out / ".lock", None)
    after.pop(out / ".lock", None)
    assert before == after


@pytest.mark.slow
def test_a_new_measurement_does_not_train_again(six) -> None:
    config, out = six
    populations = {p: p.stat().st_mtime_ns for p in out.rglob("member-*.safetensors")}
    evaluation = config.evaluation.model_copy(update={"barrier_points": 4})
    other = config.model_copy(update={"evaluation": evaluation})
    outcome = run_experiment(other, entries_of("papa"), RunContext(out=out))
    assert len(outcome.finished) == 1
    assert populations
    assert populations == {p: p.stat().st_mtime_ns for p in out.rglob("member-*.safetensors")}
    for cell in outcome.finished:  # leave the shared folder as it was
        (out / "cells" / f"{cell}.json").unlink()


@pytest.mark.slow
def test_ledger_and_arithmetic_agree_in_the_records(six) -> None:
    _, out = six
    records = records_of(out)
    summaries = {method: record["summary"] for (method, _), record in records.items()}
    d, steps = summaries["papa"]["parameters"], summaries["papa"]["steps"]
    assert summaries["papa"]["sent_values_total"] == d * -(-steps // 10)
    assert summaries["naive-ensemble"]["sent_bytes_total"] == 0
    assert summaries["wash"]["sent_values_total"] > 0
    for record in records.values():  # the figures' bytes end where the tables' do
        log = out / "trainings" / record["training_id"] / "events.jsonl"
        sent = [e for e in map(json.loads, log.open()) if e.get("metric") == "sent_bytes"]
        assert sent[-1]["value"] == record["summary"]["sent_bytes_total"]
    # the same coordinates and permutations, weights and momentum: twice the values
    assert summaries["wash-opt"]["sent_values_total"] == 2 * summaries["wash"]["sent_values_total"]


@pytest.mark.slow
def test_the_records_tell_which_members_saw_images_of_their_own(six) -> None:
    shares = {
        method: record["summary"].get("own_augmentation_share")
        for (method, _), record in records_of(six[1]).items()
    }
    assert shares.pop("dart") == 3 / 4  # one member plain for an epoch, then three on branches
    assert set(shares.values()) == {None}


def test_the_records_hold_what_the_table_of_metrics_lists(six) -> None:
    _, out = six
    found = {name for record in records_of(out).values() for name in record["summary"]}
    found = {re.sub(r"(?<=^predictor_).+(?=_acc$)", "NAME", name) for name in found}
    always = {metric.key for metric in SUMMARY}
    assert always <= found <= always | {metric.key for metric in FURTHER}


@pytest.mark.slow
def test_two_jobs_give_the_bits_of_one(six, tmp_path: Path) -> None:
    config, out = six
    outcome = run_experiment(
        config, entries_of(*DEFAULT_METHODS), RunContext(out=tmp_path, jobs=2, threads=1)
    )
    assert not outcome.failed
    assert_same_bits(out, tmp_path)


@pytest.mark.slow
def test_a_folder_of_images_trains_with_two_jobs(tiny: RunConfig, tmp_path: Path) -> None:
    """Worker processes may have loader processes of their own."""
    folder = class_folders(tmp_path / "data", 20, 20, 20, test_count=6)
    training = tiny.training.model_copy(
        update={
            "dataset": f"folder:{folder}",
            "image_size": 32,
            "train_limit": 0,
            "batch_size": 8,
        }
    )
    config = tiny.model_copy(update={"training": training})
    entries = entries_of("wash", "naive-ensemble")
    one = run_experiment(config, entries, RunContext(out=tmp_path / "one", threads=1))
    two = run_experiment(config, entries, RunContext(out=tmp_path / "two", jobs=2, threads=1))
    assert len(one.finished) == len(two.finished) == 2
    assert_same_bits(tmp_path / "one", tmp_path / "two")


@pytest.mark.fault(
    "Kills and stops",
    "SIGKILL between the last step and the evaluation",
    "the same command measures, and trains nothing again",
)
@pytest.mark.slow
def test_killed_between_the_last_step_and_the_evaluation(six, tmp_path: Path) -> None:
    """The population is whole, the status still says running: nothing is trained again."""
    config, out = six
    copy = tmp_path / "copy"
    shutil.copytree(out, copy)
    for path in copy.glob("cells/papa-*.json"):
        path.unlink()
    (folder,) = copy.glob("trainings/papa-*")
    (folder / "status.json").write_text('{"status": "running", "reason": null}')
    for path in folder.glob("evaluation-*.json"):
        path.unlink()
    (member,) = folder.glob("state-*/member-0.safetensors")
    before = member.stat().st_mtime_ns
    outcome = run_experiment(config, entries_of("papa"), RunContext(out=copy))
    assert len(outcome.finished) == 1
    assert member.stat().st_mtime_ns == before
    first, second = (records_of(root)["papa", 0]["summary"] for root in (out, copy))
    timings = {"eval_seconds", "merge_seconds"}
    assert {k: v for k, v in first.items() if k not in timings} == {
        k: v for k, v in second.items() if k not in timings
    }


@pytest.mark.slow
def test_methods_of_one_file_share_a_training_only_if_they_train_alike(
    tiny: RunConfig, tmp_path: Path
) -> None:
    """A class that inherits a training key but not the training must not read its ancestor's."""
    file = tmp_path / "family.py"
    file.write_text(
        "from wash_bench.methods.naive_ensemble import NaiveEnsemble\n"
        "class Plain(NaiveEnsemble):\n"
        '    name = "plain"\n'
        "class Broken(NaiveEnsemble):\n"
        '    name = "broken"\n'
        "    def predictors(self, population, judge): raise KeyError('beta')\n"
        "class Half(NaiveEnsemble):\n"
        '    name = "half"\n'
        "    def after_step(self, population, exchange, clock): population.weights.mul_(0.5)\n"
        "class Cut(NaiveEnsemble):\n"
        '    name = "cut"\n'
        "    def recipe(self, member, base, clock): return base.but(cutout=4)\n"
    )
    names = ("Plain", "Broken", "Half", "Cut")
    entries = [load_method_file(f"{file}:{name}") for name in names]
    tasks = tasks_of(cells_of(tiny, entries))
    shared = [{cell.method for cell in task.cells} for task in tasks]
    assert shared == [{"plain", "broken"}, {"half"}, {"cut"}]

    # An error in the merge of one does not fail the others that read the training.
    outcome = run_experiment(tiny, entries[:2], RunContext(out=tmp_path / "out"))
    assert len(outcome.finished) == 1
    ((_, reason),) = outcome.failed
    assert reason == f"KeyError: 'beta' ({file}:6)"


def test_a_folder_of_images_is_the_same_however_it_is_spelled(
    tiny: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def identity(folder: str) -> str:
        training = tiny.training.model_copy(update={"dataset": f"folder:{folder}"})
        (task,) = tasks_of(
            cells_of(tiny.model_copy(update={"training": training}), entries_of("papa"))
        )
        return task.cells[0].cell_id

    for place, count in (("here", 2), ("there", 3)):
        class_folders(tmp_path / place / "pets", count, 8, 8)
    monkeypatch.chdir(tmp_path / "here")
    relative = identity("pets")
    assert relative == identity("./pets") == identity(str(tmp_path / "here" / "pets"))
    monkeypatch.chdir(tmp_path / "there")
    assert identity("pets") != relative  # other images
