"""The commands that a report shows make the same experiment again."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
from pathlib import Path

import pytest

from tests.support.records import write_cell
from wash_bench.config import RunConfig
from wash_bench.plugins.registry import find_method, make_method
from wash_bench.report.command import commands
from wash_bench.report.read import frames
from wash_bench.report.write import write_report
from wash_bench.study.resolve import resolve


def again(tmp_path, command) -> RunConfig:
    """What the shown preset file and command line resolve to."""
    (tmp_path / command.file).write_text(command.toml)
    words = shlex.split(command.line)
    assert words[:3] == ["wash-bench", "run", "--preset-file"]
    return resolve(None, tmp_path / words[3], {}).config


FURTHER = {
    "epochs": 3,
    "lr": 1e-05,
    "lr_min": 0.0,
    "milestones": [0.25, 0.5],
    "schedule": "multistep",
    "channels_last": False,
    "model_args": {"drop_rate": 0.1},
}


@pytest.mark.parametrize("training", [{}, FURTHER])
def test_the_preset_file_resolves_to_the_recorded_configuration(tmp_path, training):
    given = {"wash": {"p": 0.07}, "papa": {"alpha": 0.5}, "wash+ema": {"p": 0.02}}
    for method, options in given.items():
        full = make_method(find_method(method), options).settings()
        for seed in (0, 3):
            write_cell(tmp_path / "run", method, seed, options=full, **training)
    records = frames.load([tmp_path / "run"])
    (experiment_id, cells) = next(iter(records.experiments()))
    recorded = records.configs[experiment_id]
    (command,) = commands(recorded, cells)
    config = again(tmp_path, command)
    for section in ("training", "evaluation"):
        found = getattr(config, section).model_dump(mode="json")
        assert found == recorded[section]
    assert sorted(config.methods) == sorted(given) and config.seeds == (0, 3)
    for method, options in given.items():
        full = make_method(find_method(method), options).settings()
        assert make_method(find_method(method), config.set[method]).settings() == full


def test_two_settings_of_a_method_are_two_runs(tmp_path):
    for p in (0.05, 0.2):
        write_cell(tmp_path / "run", "wash", 0, options={"p": p})
    write_cell(tmp_path / "run", "papa", 1, options={})
    records = frames.load([tmp_path / "run"])
    (experiment_id, cells) = next(iter(records.experiments()))
    one, two = commands(records.configs[experiment_id], cells)
    assert one.file != two.file and one.line != two.line
    configs = [again(tmp_path, one), again(tmp_path, two)]
    assert {config.set["wash"]["p"] for config in configs} == {0.05, 0.2}
    assert [("papa" in config.methods) for config in configs].count(True) == 1


def test_a_method_of_a_file_is_said_to_need_it(tmp_path):
    path = write_cell(tmp_path, "mine", 0, options={"text": 'a "b"\n\u00e9\x7f'})
    assert json.loads(path.read_text())["method"] == "mine"
    records = frames.load([tmp_path])
    (experiment_id, cells) = next(iter(records.experiments()))
    (command,) = commands(records.configs[experiment_id], cells)
    assert command.toml.startswith('# Methods of a file of its own ("mine")')
    import tomllib

    assert tomllib.loads(command.toml)["set"]["mine"]["text"] == 'a "b"\n\u00e9\x7f'
    assert Path(command.file).name == command.file


def test_the_script_runs_each_of_them(tmp_path):
    for seed in (0, 1):
        write_cell(tmp_path / "run", "papa", seed)
        write_cell(tmp_path / "run", "papa", seed, epochs=5)
    write_report([tmp_path / "run"], tmp_path / "report", figures=())
    program = tmp_path / "bin" / "wash-bench"
    program.parent.mkdir()
    program.write_text('#!/bin/sh\necho "$@" >> called\ntest -s "$3"\n')
    program.chmod(0o755)
    environment = {**os.environ, "PATH": f"{program.parent}:{os.environ['PATH']}"}
    script = tmp_path / "report" / "commands.sh"
    subprocess.run(["sh", str(script)], cwd=tmp_path, env=environment, check=True)
    first, second = (tmp_path / "called").read_text().splitlines()
    assert first != second and first.startswith("run --preset-file test_resnet-")
    epochs = {resolve(None, file, {}).config.training.epochs for file in tmp_path.glob("*.toml")}
    assert len(epochs) == 2 and 5 in epochs
