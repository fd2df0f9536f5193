"""``--jobs auto``: by cores, memory and trainings, the same for the same command."""

from __future__ import annotations

import json
import multiprocessing
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.support.images import class_folders
from wash_bench.config import DEFAULT_METHODS, RunConfig, TrainingConfig
from wash_bench.core.layout import Layout
from wash_bench.distributed.process_group import local_device
from wash_bench.distributed.world import LocalWorld
from wash_bench.errors import WashBenchError
from wash_bench.plugins.registry import find_method, load_method_file
from wash_bench.runner import experiment, jobs, pool
from wash_bench.runner.context import RunContext
from wash_bench.runner.experiment import run_experiment, tasks_of
from wash_bench.study.cells import cells_of
from wash_bench.study.options import OPTIONS
from wash_bench.study.resolve import local_config


@pytest.fixture(autouse=True)
def four_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "cores", lambda: 4)


def tasks(methods: tuple[str, ...] = DEFAULT_METHODS, **training: object) -> list:
    config = RunConfig(training=TrainingConfig(**{"device": "cpu", **training}))
    return tasks_of(cells_of(config, [find_method(name) for name in methods]))


def context(**settings: object) -> RunContext:
    return RunContext.of(local_config({"jobs": "auto", **settings}))


def test_auto_is_the_default_of_commands_and_one_that_of_programs() -> None:
    assert local_config({}).jobs is None is local_config({"jobs": "auto"}).jobs
    assert OPTIONS["jobs"].default == "auto"
    assert context().jobs is None and RunContext().jobs == 1


def test_cores_threads_and_trainings_bound_it() -> None:
    assert len(tasks()) == 5  # two methods read one training
    assert jobs.jobs_for(tasks(), context()) == 4
    assert jobs.jobs_for(tasks(("wash", "papa")), context()) == 2
    assert jobs.jobs_for(tasks(("wash",)), context()) == 1
    assert jobs.jobs_for(tasks(), context(threads="2")) == 2
    assert jobs.jobs_for(tasks(), context(threads="9")) == 1


def test_one_where_the_cores_are_not_what_trains_or_are_full(tmp_path: Path) -> None:
    class Spread(LocalWorld):
        ranks = 2

    assert jobs.jobs_for(tasks(device="mps"), context()) == 1
    assert (
        jobs.jobs_for(
            tasks(dataset=f"folder:{class_folders(tmp_path, 2, 8, 8)}", device="cpu"), context()
        )
        == 1
    )
    assert jobs.jobs_for(tasks(), context().but(world=Spread())) == 1


@pytest.mark.parametrize("count", [0, 1, 3, 8])
def test_one_job_on_each_gpu(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: count)
    monkeypatch.setattr("torch.cuda.is_available", lambda: count > 0)
    assert jobs.jobs_for(tasks(device="cuda"), context()) == max(1, min(count, 5))
    assert jobs.jobs_for(tasks(device="cuda:1"), context()) == 1
    for slot in range(count):
        monkeypatch.setenv("LOCAL_RANK", str(slot))
        assert local_device("cuda") == local_device("auto") == f"cuda:{slot}"
        assert local_device("cuda:0") == "cuda:0" and local_device("cpu") == "cpu"


SLOT = """
import os
from wash_bench.core.method import Method

class Slot(Method):
    name, rule, paper, sends = "slot", "none", "none", "nothing"

    def start(self, population, exchange):
        with open("SLOTS", "a") as file:
            file.write(f"{os.getpid()} {os.environ['LOCAL_RANK']}\\n")

    def after_step(self, population, exchange, clock):
        pass

    def charges(self, site, clock):
        return ()
"""


@pytest.mark.slow
def test_each_process_has_a_slot_of_its_own(tiny: RunConfig, tmp_path: Path) -> None:
    (tmp_path / "slot.py").write_text(SLOT.replace("SLOTS", str(tmp_path / "slots.txt")))
    config = tiny.model_copy(update={"seeds": (0, 1, 2, 3)})
    entries = [load_method_file(f"{tmp_path / 'slot.py'}:Slot")]
    run = RunContext.of(local_config({"jobs": "2", "out": str(tmp_path / "r")}))
    assert not run_experiment(config, entries, run).failed
    found = [line.split() for line in (tmp_path / "slots.txt").read_text().splitlines()]
    slots = dict(found)
    assert len(found) == 4 and set(slots.values()) <= {"0", "1"}
    assert len(set(slots.values())) == len(slots)


def test_memory_bounds_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "memory", lambda: 10 * 2**30)
    assert [jobs.fitting(4, each * 2**30) for each in (1, 2, 3, 5, 50)] == [4, 4, 2, 1, 1]
    monkeypatch.setattr(jobs, "memory", lambda: None)
    assert jobs.fitting(4, 2**50) == 4


def test_memory_of_a_container(tmp_path: Path) -> None:
    machine = jobs.memory(tmp_path)
    (tmp_path / "memory.max").write_text("max\n")
    assert jobs.memory(tmp_path) == machine
    (tmp_path / "memory.max").write_text("1000000\n")
    assert jobs.memory(tmp_path) == 1_000_000


def test_what_a_job_takes_grows_with_its_population(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "_peak", lambda: 7)

    class Sized(Layout):
        size, buffer_size = 1000, 10

        def __init__(self) -> None:
            pass

    plain = TrainingConfig(population=3)
    assert jobs.bytes_of(plain, Sized()) == 4 * (1000 * (3 * 2 + 1) + 30) + 7
    adamw = plain.model_copy(update={"optimizer": "adamw"})
    assert jobs.bytes_of(adamw, Sized()) == 4 * (1000 * (3 * 3 + 1) + 30) + 7
    still = plain.model_copy(update={"momentum": 0.0})
    assert jobs.bytes_of(still, Sized()) == 4 * (1000 * (3 + 1) + 30) + 7


def test_what_is_left_goes_on_with_as_many_threads(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked = []

    def in_pool(todo, means, retry, most):
        asked.append((len(todo), most))
        return [[(cell.cell_id, None) for task in todo for cell in task.cells]]

    monkeypatch.setattr(experiment, "in_pool", in_pool)
    monkeypatch.setattr(experiment, "open_tasks", lambda tasks, *rest: tasks[2:])
    config = RunConfig(training=TrainingConfig(device="cpu"))
    entries = [find_method(name) for name in ("wash", "papa", "dart")]
    run_experiment(config, entries, context(out=str(tmp_path)))
    assert asked == [(1, 3)]


def test_a_program_needs_no_main_guard(tmp_path: Path) -> None:
    script = tmp_path / "program.py"
    script.write_text(
        "import wash_bench as wb\n"
        "open('begun', 'a').write('x')\n"
        "wb.run('digits', train_limit=96, image_size=16, val_share=0.1, stem='keep', epochs=1,\n"
        "       batch_size=32, population=2, device='cpu', barrier_points=3, barrier_images=20,\n"
        "       bn_images=32, barrier_bn_images=32, threads=1, seeds=[0], jobs=2, out='runs',\n"
        "       methods='wash,naive-ensemble')\n"
    )
    done = subprocess.run(
        [sys.executable, str(script)], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "begun").read_text() == "x"
    assert len(list(tmp_path.glob("runs/cells/*.json"))) == 2


def test_a_process_that_dies_ends_the_run_in_a_line(tiny: RunConfig, tmp_path: Path) -> None:
    method = tmp_path / "dies.py"
    method.write_text(
        "import os, signal\n"
        "from wash_bench.methods.naive_ensemble import NaiveEnsemble\n"
        "class Dies(NaiveEnsemble):\n"
        "    name = 'dies'\n"
        "    def training_key(self): return {'rule': 'dies'}\n"
        "    def after_step(self, *_): os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    entries = [load_method_file(f"{method}:Dies"), find_method("papa")]
    with pytest.raises(WashBenchError, match="fewer --jobs"):
        run_experiment(tiny, entries, RunContext(out=tmp_path / "out", threads=1, jobs=2))
    assert not multiprocessing.active_children()
    assert not [p for p in tmp_path.glob("out/cells/*") if "dies" in p.name]


@pytest.mark.slow
@pytest.mark.parametrize("platform", [sys.platform, "darwin"])  # where processes are spawned
def test_auto_gives_the_bits_of_one_job_and_is_recorded(
    tiny: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, platform: str
) -> None:
    monkeypatch.setattr(pool, "sys", SimpleNamespace(platform=platform, modules=sys.modules))
    config = tiny.model_copy(update={"seeds": (0, 1)})
    found = []
    for folder, means in (
        ("one", RunContext(out=tmp_path / "one", threads=1)),
        ("auto", context(out=str(tmp_path / "auto"), threads="1")),
    ):
        outcome = run_experiment(config, [find_method("papa")], means)
        assert len(outcome.finished) == 2 and not outcome.failed
        cells = [json.loads(p.read_text()) for p in (tmp_path / folder / "cells").iterdir()]
        found.append({cell["cell_id"]: cell["summary"]["average_nll"] for cell in cells})
        told = [
            json.loads(path.read_text())
            for path in (tmp_path / folder / "trainings").glob("*/environment.json")
        ]
        assert {entry["jobs"] for entry in told} == {1 if folder == "one" else 2}
        assert {entry["threads"] for entry in told} == {1}
    assert found[0] == found[1]
