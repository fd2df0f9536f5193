"""Runs as a whole: sharing, caching, failure, killing and resuming to the same bits."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from filelock import FileLock
from safetensors.torch import load_file
from torchvision.io import write_png

from tests.ranks import exit_code_of
from wash_bench.config import DEFAULT_METHODS, RunConfig
from wash_bench.errors import UsageError, WashBenchError
from wash_bench.metrics import FURTHER, SUMMARY
from wash_bench.plugins.registry import find_method, load_method_file
from wash_bench.record.environment import continued
from wash_bench.runner.context import RunContext
from wash_bench.runner.experiment import run_experiment, tasks_of

SET = {"wash": {"p": 0.1}, "wash-opt": {"p": 0.1}, "papa": {"alpha": 0.9}, "dart": {"every": 1}}


def _entries(*names: str):
    return [find_method(name) for name in names]


def _records(out: Path) -> dict[tuple[str, int], dict]:
    records = [json.loads(path.read_text()) for path in (out / "cells").glob("*.json")]
    return {(record["method"], record["seed"]): record for record in records}


def _populations(out: Path) -> dict[str, dict[str, torch.Tensor]]:
    """Every tensor of every finished member, and the averages, by training."""
    found: dict[str, dict[str, torch.Tensor]] = {}
    for pattern in ("*/state-*/member-*.safetensors", "*/average.safetensors"):
        for path in sorted((out / "trainings").glob(pattern)):
            training = path.relative_to(out / "trainings").parts[0]
            tensors = {f"{path.name}/{name}": t for name, t in load_file(path).items()}
            found.setdefault(training, {}).update(tensors)
    return found


def _assert_same_bits(a: Path, b: Path) -> None:
    first, second = _populations(a), _populations(b)
    assert first.keys() == second.keys()
    assert first
    for training, tensors in first.items():
        for name, tensor in tensors.items():
            assert torch.equal(tensor, second[training][name]), (training, name)
        logs = [(out / "trainings" / training / "events.jsonl").read_text() for out in (a, b)]
        assert logs[0] == logs[1]


@pytest.fixture(scope="module")
def six(tmp_path_factory, request) -> tuple[RunConfig, Path]:
    """All six methods, run once."""
    config = request.getfixturevalue("tiny_module").model_copy(update={"set": SET})
    out = tmp_path_factory.mktemp("six")
    outcome = run_experiment(config, _entries(*DEFAULT_METHODS), RunContext(out))
    assert not outcome.failed
    assert len(outcome.finished) == 6
    return config, out


@pytest.mark.slow
def test_methods_with_one_training_rule_share_one_training(six) -> None:
    _, out = six
    records = _records(out)
    assert len(records) == 6
    assert len(_populations(out)) == 5
    naive, greedy = records["naive-ensemble", 0], records["greedy-soup", 0]
    assert naive["training_id"] == greedy["training_id"]
    assert naive["summary"]["ensemble_acc"] == greedy["summary"]["ensemble_acc"]
    assert naive["summary"]["method_predictor"] == "ensemble"
    assert greedy["summary"]["method_acc"] == greedy["summary"]["greedy_acc"]


@pytest.mark.slow
def test_a_finished_run_is_never_trained_again(six) -> None:
    config, out = six
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.is_file()}
    outcome = run_experiment(config, _entries(*DEFAULT_METHODS), RunContext(out))
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
    outcome = run_experiment(other, _entries("papa"), RunContext(out))
    assert len(outcome.finished) == 1
    assert populations
    assert populations == {p: p.stat().st_mtime_ns for p in out.rglob("member-*.safetensors")}
    for cell in outcome.finished:  # leave the shared folder as it was
        (out / "cells" / f"{cell}.json").unlink()


@pytest.mark.slow
def test_ledger_and_arithmetic_agree_in_the_records(six) -> None:
    _, out = six
    records = _records(out)
    summaries = {method: record["summary"] for (method, _), record in records.items()}
    d, steps = summaries["papa"]["parameters"], summaries["papa"]["steps"]
    assert summaries["papa"]["sent_values_total"] == d * -(-steps // 10)
    assert summaries["naive-ensemble"]["sent_bytes_total"] == 0
    assert summaries["wash"]["sent_values_total"] > 0
    for record in records.values():  # the figures' bytes end where the tables' do
        log = out / "trainings" / record["training_id"] / "events.jsonl"
        sent = [e for e in map(json.loads, log.open()) if e["metric"] == "sent_bytes"]
        assert sent[-1]["value"] == record["summary"]["sent_bytes_total"]
    # the same coordinates and permutations, weights and momentum: twice the values
    assert summaries["wash-opt"]["sent_values_total"] == 2 * summaries["wash"]["sent_values_total"]


def test_the_records_hold_what_the_table_of_metrics_lists(six) -> None:
    _, out = six
    found = {name for record in _records(out).values() for name in record["summary"]}
    found = {re.sub(r"(?<=^predictor_).+(?=_acc$)", "NAME", name) for name in found}
    assert found == {metric.key for metric in (*SUMMARY, *FURTHER)}


@pytest.mark.slow
def test_two_jobs_give_the_bits_of_one(six, tmp_path: Path) -> None:
    config, out = six
    outcome = run_experiment(
        config, _entries(*DEFAULT_METHODS), RunContext(tmp_path, jobs=2, threads=1)
    )
    assert not outcome.failed
    _assert_same_bits(out, tmp_path)


def _killed_run(config: RunConfig, method: str, out: Path) -> None:
    def observe(progress) -> None:
        # It is told of the second epoch's end before its checkpoint is written.
        if progress.epoch >= 2:
            os.kill(os.getpid(), signal.SIGKILL)

    torch.set_num_threads(1)
    run_experiment(config, _entries(method), RunContext(out, threads=1, observer=observe))


@pytest.mark.slow
@pytest.mark.parametrize("method", ["wash-opt", "papa", "dart"])
@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_killed_at_any_moment_and_resumed_to_the_same_bits(
    tiny: RunConfig, tmp_path: Path, method: str, optimizer: str
) -> None:
    """SIGKILL in the middle of the second epoch, after the first checkpoint."""
    training = tiny.training.model_copy(
        update={"epochs": 3, "optimizer": optimizer, "lr": 0.05 if optimizer == "sgd" else 0.002}
    )
    config = tiny.model_copy(update={"training": training, "set": SET})
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    run_experiment(config, _entries(method), RunContext(whole))
    assert exit_code_of(_killed_run, config, method, killed) == -signal.SIGKILL
    assert list(killed.glob("trainings/*/state-1/optimizer-2.safetensors"))
    assert not list(killed.glob("cells/*.json"))
    log = next(killed.glob("trainings/*/events.jsonl"))
    with log.open("ab") as file:
        file.write(b'{"step": 99, "epo')  # a torn line, as a kill can leave it
    run_experiment(config, _entries(method), RunContext(killed))
    _assert_same_bits(whole, killed)


@pytest.mark.slow
def test_killed_before_the_first_checkpoint(tiny: RunConfig, tmp_path: Path) -> None:
    """A folder with a status and half an epoch of nothing starts from the beginning."""
    run_experiment(tiny, _entries("papa"), RunContext(tmp_path / "whole"))
    task = tasks_of(tiny, _entries("papa"))[0]
    folder = tmp_path / "killed" / "trainings" / task.training_id
    folder.mkdir(parents=True)
    (folder / "status.json").write_text('{"status": "running", "reason": null}')
    (folder / "events.jsonl").write_text('{"step": 3, "epoch": 1, "mem')
    (folder / "state-1").mkdir()
    (folder / "state-1" / ".member-0.safetensors.x.part").write_text("half a file")
    run_experiment(tiny, _entries("papa"), RunContext(tmp_path / "killed"))
    _assert_same_bits(tmp_path / "whole", tmp_path / "killed")


@pytest.mark.slow
def test_a_diverging_member_fails_its_cell_and_the_others_go_on(
    tiny: RunConfig, tmp_path: Path
) -> None:
    method = tmp_path / "poison.py"
    method.write_text(
        "from wash_bench.methods.naive_ensemble import NaiveEnsemble\n"
        "class Poison(NaiveEnsemble):\n"
        '    name = "poison"\n'
        "    def training_key(self): return {'rule': 'poison'}\n"
        "    def after_step(self, population, exchange, clock):\n"
        "        population.weights[2].fill_(float('nan'))\n"
    )
    entries = [load_method_file(f"{method}:Poison"), *_entries("papa")]
    outcome = run_experiment(tiny, entries, RunContext(tmp_path / "out"))
    assert len(outcome.failed) == 1
    assert "member 2 is not finite" in outcome.failed[0][1]
    assert len(outcome.finished) == 1
    records = _records(tmp_path / "out")
    assert records["poison", 0]["status"] == "failed"
    assert records["papa", 0]["status"] == "finished"
    # Kept as failed, not trained again.
    again = run_experiment(tiny, entries, RunContext(tmp_path / "out"))
    assert again.failed == outcome.failed
    assert len(again.cached) == 1


def test_a_folder_in_use_is_refused(tiny: RunConfig, tmp_path: Path) -> None:
    (tmp_path / "cells").mkdir()
    with FileLock(tmp_path / ".lock"), pytest.raises(WashBenchError, match="another run is using"):
        run_experiment(tiny, _entries("papa"), RunContext(tmp_path))


def test_a_folder_that_cannot_be_made_is_refused(tiny: RunConfig, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UsageError, match="cannot write to the run folder"):
        run_experiment(tiny, _entries("papa"), RunContext(tmp_path / "file" / "runs"))


def test_a_device_that_is_not_there_is_refused(tiny: RunConfig, tmp_path: Path) -> None:
    training = tiny.training.model_copy(update={"device": "cuda:77"})
    with pytest.raises(UsageError, match="this machine has: cpu"):
        run_experiment(
            tiny.model_copy(update={"training": training}), _entries("papa"), RunContext(tmp_path)
        )


@pytest.mark.slow
def test_workers_end_with_their_parent(tiny: RunConfig, tmp_path: Path) -> None:
    """A killed parent must leave nobody behind who writes to the folder without its lock."""
    training = tiny.training.model_copy(update={"epochs": 200})
    config = tiny.model_copy(update={"training": training})
    (tmp_path / "config.json").write_text(config.model_dump_json())
    script = tmp_path / "run.py"
    script.write_text(
        "import sys, os, signal\n"
        "from pathlib import Path\n"
        "from wash_bench.config import RunConfig\n"
        "from wash_bench.plugins.registry import find_method\n"
        "from wash_bench.runner.context import RunContext\n"
        "from wash_bench.runner.experiment import run_experiment\n"
        "def observe(progress):\n"
        "    if progress.epoch >= 1:\n"
        "        import multiprocessing\n"
        "        print(*[w.pid for w in multiprocessing.active_children()], flush=True)\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "if __name__ == '__main__':\n"
        "    config = RunConfig.model_validate_json(Path(sys.argv[1]).read_text())\n"
        "    context = RunContext(Path(sys.argv[2]), jobs=2, threads=1, observer=observe)\n"
        "    run_experiment(config, [find_method('papa'), find_method('wash')], context)\n"
    )
    command = [sys.executable, str(script), str(tmp_path / "config.json"), str(tmp_path / "out")]
    done = subprocess.run(command, check=False, stdout=subprocess.PIPE, text=True)
    assert done.returncode == -signal.SIGKILL
    pids = [int(pid) for pid in done.stdout.split()]
    assert len(pids) == 2
    deadline = time.monotonic() + 20
    while any(_alive(pid) for pid in pids):
        assert time.monotonic() < deadline, "a worker outlived its parent"
        time.sleep(0.1)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    status = Path(f"/proc/{pid}/stat")
    return not status.exists() or status.read_text().rpartition(")")[2].split()[0] != "Z"


@pytest.mark.slow
def test_an_error_in_a_methods_code_fails_its_cell_with_the_place(
    tiny: RunConfig, tmp_path: Path
) -> None:
    method = tmp_path / "broken.py"
    method.write_text(
        "from wash_bench.methods.naive_ensemble import NaiveEnsemble\n"
        "class Broken(NaiveEnsemble):\n"
        '    name = "broken"\n'
        "    def training_key(self): return {'rule': 'broken'}\n"
        "    def after_step(self, population, exchange, clock):\n"
        "        raise KeyError('beta')\n"
    )
    entries = [load_method_file(f"{method}:Broken"), *_entries("papa")]
    outcome = run_experiment(tiny, entries, RunContext(tmp_path / "out"))
    ((_, reason),) = outcome.failed
    assert reason == f"KeyError: 'beta' ({method}:6)"
    assert len(outcome.finished) == 1


@pytest.mark.slow
def test_a_folder_of_images_trains_with_two_jobs(tiny: RunConfig, tmp_path: Path) -> None:
    """Worker processes may have loader processes of their own."""
    generator = torch.Generator().manual_seed(0)
    for split, count in (("train", 20), ("val", 6)):
        for name in ("cats", "dogs"):
            folder = tmp_path / "data" / split / name
            folder.mkdir(parents=True)
            for i in range(count):
                pixels = torch.randint(256, (3, 20, 20), generator=generator, dtype=torch.uint8)
                write_png(pixels, str(folder / f"{i}.png"))
    training = tiny.training.model_copy(
        update={
            "dataset": f"folder:{tmp_path / 'data'}",
            "image_size": 32,
            "train_limit": 0,
            "batch_size": 8,
        }
    )
    config = tiny.model_copy(update={"training": training})
    entries = _entries("wash", "naive-ensemble")
    one = run_experiment(config, entries, RunContext(tmp_path / "one", threads=1))
    two = run_experiment(config, entries, RunContext(tmp_path / "two", jobs=2, threads=1))
    assert len(one.finished) == len(two.finished) == 2
    _assert_same_bits(tmp_path / "one", tmp_path / "two")


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="needs root to mount")
def test_a_full_disk_is_one_line_and_costs_no_finished_result(
    tiny: RunConfig, tmp_path: Path
) -> None:
    small = tmp_path / "small"
    small.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", str(small)],
        check=False,
        capture_output=True,
    )
    if mounted.returncode:
        pytest.skip("may not mount a small file system")
    try:
        run_experiment(tiny, _entries("naive-ensemble"), RunContext(small))  # 9 MB of rows fit once
        finished = {p: p.read_bytes() for p in small.rglob("*.json")}
        with pytest.raises(WashBenchError, match="is full; free some space and run the same"):
            run_experiment(tiny, _entries("papa"), RunContext(small))
        for path, content in finished.items():
            assert path.read_bytes() == content
        assert not list(small.rglob("*.part"))
        assert len(list(small.glob("cells/*.json"))) == 1
        again = run_experiment(tiny, _entries("naive-ensemble"), RunContext(small))
        assert len(again.cached) == 1
    finally:
        subprocess.run(["umount", str(small)], check=True)


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
    outcome = run_experiment(config, _entries("papa"), RunContext(copy))
    assert len(outcome.finished) == 1
    assert member.stat().st_mtime_ns == before
    first, second = (_records(root)["papa", 0]["summary"] for root in (out, copy))
    timings = {"eval_seconds", "merge_seconds"}
    assert {k: v for k, v in first.items() if k not in timings} == {
        k: v for k, v in second.items() if k not in timings
    }


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
    tasks = tasks_of(tiny, entries)
    shared = [{cell.method for cell in task.cells} for task in tasks]
    assert shared == [{"plain", "broken"}, {"half"}, {"cut"}]

    # An error in the merge of one does not fail the others that read the training.
    outcome = run_experiment(tiny, entries[:2], RunContext(tmp_path / "out"))
    assert len(outcome.finished) == 1
    ((_, reason),) = outcome.failed
    assert reason == f"KeyError: 'beta' ({file}:6)"


def test_a_folder_of_images_is_the_same_however_it_is_spelled(
    tiny: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def identity(folder: str) -> str:
        training = tiny.training.model_copy(update={"dataset": f"folder:{folder}"})
        (task,) = tasks_of(tiny.model_copy(update={"training": training}), _entries("papa"))
        return task.cells[0].cell_id

    for place in ("here", "there"):
        (tmp_path / place / "pets").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "here")
    relative = identity("pets")
    assert relative == identity("./pets") == identity(str(tmp_path / "here" / "pets"))
    monkeypatch.chdir(tmp_path / "there")
    assert identity("pets") != relative  # other images


class _Stop(BaseException):
    """Ends a run where a test wants it."""


@pytest.mark.slow
def test_a_training_resumed_elsewhere_says_so(tiny: RunConfig, tmp_path: Path) -> None:
    def stop(progress) -> None:
        if progress.epoch >= 2:  # after the first checkpoint
            raise _Stop

    with pytest.raises(_Stop):
        run_experiment(tiny, _entries("papa"), RunContext(tmp_path, threads=1, observer=stop))
    (path,) = tmp_path.glob("trainings/*/environment.json")
    first = json.loads(path.read_text())
    path.write_text(json.dumps(first | {"cpu": "Other CPU", "threads": 64, "date": "2020-01-01"}))
    assert not run_experiment(tiny, _entries("papa"), RunContext(tmp_path, threads=1)).failed
    now = json.loads(path.read_text())
    assert now["cpu"] == f"Other CPU, then {first['cpu']}"
    assert now["threads"] == "64, then 1"
    assert now["date"] == "2020-01-01"
    assert now["torch"] == first["torch"]
    assert continued(now, first) == now  # a third part on the second machine adds nothing
