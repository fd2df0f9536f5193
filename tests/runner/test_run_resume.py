"""Runs that are killed end whole, and resume to the same bits."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from tests.support.command import Command
from tests.support.ranks import exit_code_of
from tests.support.runs import SET, assert_same_bits, entries_of
from wash_bench.config import RunConfig
from wash_bench.record.environment import continued
from wash_bench.runner.context import RunContext
from wash_bench.runner.experiment import run_experiment, tasks_of
from wash_bench.runner.progress import Progress
from wash_bench.study.cells import cells_of


def _killed_run(config: RunConfig, method: str, out: Path) -> None:
    def observe(progress) -> None:
        # It is told of the second epoch's end before its checkpoint is written.
        if progress.epoch >= 2:
            os.kill(os.getpid(), signal.SIGKILL)

    torch.set_num_threads(1)
    run_experiment(config, entries_of(method), RunContext(out=out, threads=1, observer=observe))


@pytest.mark.fault(
    "Kills and stops",
    "SIGKILL in the middle of a training",
    "the same command resumes, to the bits of an undisturbed run",
)
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
    run_experiment(config, entries_of(method), RunContext(out=whole))
    assert exit_code_of(_killed_run, config, method, killed) == -signal.SIGKILL
    assert list(killed.glob("trainings/*/state-1/optimizer-2.safetensors"))
    assert not list(killed.glob("cells/*.json"))
    log = next(killed.glob("trainings/*/events.jsonl"))
    with log.open("ab") as file:
        file.write(b'{"step": 99, "epo')  # a torn line, as a kill can leave it
    run_experiment(config, entries_of(method), RunContext(out=killed))
    assert_same_bits(whole, killed)


@pytest.mark.fault(
    "Kills and stops", "SIGKILL before the first checkpoint", "the same command begins anew"
)
@pytest.mark.slow
def test_killed_before_the_first_checkpoint(tiny: RunConfig, tmp_path: Path) -> None:
    """A folder with a status and half an epoch of nothing starts from the beginning."""
    run_experiment(tiny, entries_of("papa"), RunContext(out=tmp_path / "whole"))
    task = tasks_of(cells_of(tiny, entries_of("papa")))[0]
    folder = tmp_path / "killed" / "trainings" / task.training_id
    folder.mkdir(parents=True)
    (folder / "status.json").write_text('{"status": "running", "reason": null}')
    (folder / "events.jsonl").write_text('{"step": 3, "epoch": 1, "mem')
    (folder / "state-1").mkdir()
    (folder / "state-1" / ".member-0.safetensors.x.part").write_text("half a file")
    run_experiment(tiny, entries_of("papa"), RunContext(out=tmp_path / "killed"))
    assert_same_bits(tmp_path / "whole", tmp_path / "killed")


def _killed_with_two_jobs(arguments: Sequence[str]) -> int:
    """A run that prints the pids of its workers and is killed in the second epoch."""

    def observe(progress: Progress) -> None:
        if progress.epoch >= 1:
            print(*[w.pid for w in multiprocessing.active_children()], flush=True)
            os.kill(os.getpid(), signal.SIGKILL)

    config, out = arguments
    context = RunContext(out=Path(out), jobs=2, threads=1, observer=observe)
    run_experiment(
        RunConfig.model_validate_json(Path(config).read_text()), entries_of("papa", "wash"), context
    )
    return 0


@pytest.mark.fault(
    "Kills and stops",
    "the parent of `--jobs` killed",
    "its workers end; nobody writes without the lock",
)
@pytest.mark.slow
def test_workers_end_with_their_parent(tiny: RunConfig, tmp_path: Path) -> None:
    """A killed parent must leave nobody behind who writes to the folder without its lock."""
    training = tiny.training.model_copy(update={"epochs": 200})
    config = tiny.model_copy(update={"training": training})
    path = tmp_path / "config.json"
    path.write_text(config.model_dump_json())
    run = Command([str(path), str(tmp_path / "out")], function=_killed_with_two_jobs)
    told, _ = run.communicate(200)
    assert run.returncode == -signal.SIGKILL
    pids = [int(pid) for pid in told.splitlines()[-1].split()]
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


class _Stop(BaseException):
    """Ends a run where a test wants it."""


@pytest.mark.fault(
    "Kills and stops",
    "a training resumed on another machine, with other threads or versions",
    "a note in the record and the report",
)
@pytest.mark.slow
def test_a_training_resumed_elsewhere_says_so(tiny: RunConfig, tmp_path: Path) -> None:
    def stop(progress) -> None:
        if progress.epoch >= 2:  # after the first checkpoint
            raise _Stop

    with pytest.raises(_Stop):
        run_experiment(tiny, entries_of("papa"), RunContext(out=tmp_path, threads=1, observer=stop))
    (path,) = tmp_path.glob("trainings/*/environment.json")
    first = json.loads(path.read_text())
    del first["checksum"]
    path.write_text(json.dumps(first | {"cpu": "Other CPU", "threads": 64, "date": "2020-01-01"}))
    assert not run_experiment(tiny, entries_of("papa"), RunContext(out=tmp_path, threads=1)).failed
    now = json.loads(path.read_text())
    del now["checksum"]
    assert now["cpu"] == f"Other CPU, then {first['cpu']}"
    assert now["threads"] == "64, then 1"
    assert now["date"] == "2020-01-01"
    assert now["torch"] == first["torch"]
    assert continued(now, first) == now  # a third part on the second machine adds nothing
