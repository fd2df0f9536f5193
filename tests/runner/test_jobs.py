"""``--jobs auto``: by cores, memory and trainings, the same for the same command."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from wash_bench.config import DEFAULT_METHODS, RunConfig, TrainingConfig
from wash_bench.core.layout import Layout
from wash_bench.distributed.world import LocalWorld
from wash_bench.plugins.registry import find_method
from wash_bench.runner import experiment, jobs, pool
from wash_bench.runner.context import RunContext
from wash_bench.runner.experiment import run_experiment, tasks_of
from wash_bench.runner.queue import Outcome
from wash_bench.settings.cells import cells_of
from wash_bench.settings.resolve import local_config
from wash_bench.settings.table import SETTINGS


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
    assert SETTINGS["jobs"].default == "auto"
    assert context().jobs is None and RunContext().jobs == 1


def test_cores_threads_and_trainings_bound_it() -> None:
    assert len(tasks()) == 5  # two methods read one training
    assert jobs.jobs_for(tasks(), context()) == 4
    assert jobs.jobs_for(tasks(("wash", "papa")), context()) == 2
    assert jobs.jobs_for(tasks(("wash",)), context()) == 1
    assert jobs.jobs_for(tasks(), context(threads="2")) == 2
    assert jobs.jobs_for(tasks(), context(threads="9")) == 1


def test_one_where_the_cores_are_not_what_trains_or_are_full() -> None:
    class Spread(LocalWorld):
        ranks = 2

    assert jobs.jobs_for(tasks(device="cuda"), context()) == 1
    assert jobs.jobs_for(tasks(dataset="folder:.", device="cpu"), context()) == 1
    assert jobs.jobs_for(tasks(), context().but(world=Spread())) == 1


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
    monkeypatch.setattr(
        experiment, "in_pool", lambda todo, means, most: asked.append((len(todo), most)) or []
    )
    all_tasks = tasks(("wash", "papa", "dart"))
    monkeypatch.setattr(
        experiment,
        "open_part",
        lambda task, *rest: task if task.cells[0].method == "dart" else None,
    )
    experiment._run_open(all_tasks, None, context(out=str(tmp_path)), Outcome())
    assert asked == [(1, 3)]


@pytest.mark.slow
@pytest.mark.parametrize("platform", [sys.platform, "darwin"])  # where processes are spawned
def test_auto_gives_the_bits_of_one_job_and_is_recorded(
    tiny: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, platform: str
) -> None:
    monkeypatch.setattr(pool, "sys", SimpleNamespace(platform=platform))
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
