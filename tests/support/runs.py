"""What the tests of whole runs share: settings, entries, records, weights."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from wash_bench.config import RunConfig
from wash_bench.distributed.ranks import DistributedWorld
from wash_bench.distributed.world import LocalWorld
from wash_bench.plugins.registry import MethodEntry, find_method
from wash_bench.runner.context import RunContext
from wash_bench.runner.experiment import run_experiment
from wash_bench.runner.progress import Progress

SET = {"wash": {"p": 0.1}, "wash-opt": {"p": 0.1}, "papa": {"alpha": 0.9}, "dart": {"every": 1}}


def entries_of(*names: str):
    return [find_method(name) for name in names]


def stop_after_an_epoch(
    config: RunConfig, entries: Sequence[MethodEntry], out: Path, epochs: int = 1, **context: Any
) -> None:
    """Begin a run and break it off after some epochs, with a checkpoint of each."""

    class Stop(BaseException):
        pass

    def stop(progress: Progress) -> None:
        if progress.epoch > epochs:
            raise Stop

    with pytest.raises(Stop):
        run_experiment(config, entries, RunContext(out=out, threads=1, observer=stop, **context))


def run_in_world(
    config: RunConfig, out: Path, names: Sequence[str], distributed: bool, observer=lambda _: None
) -> None:
    """A run in this process, or this rank's part of one that is spread over several."""
    world = DistributedWorld() if distributed else LocalWorld()
    context = RunContext(out=out, threads=1, world=world, observer=observer)
    assert not run_experiment(config, entries_of(*names), context).failed


def pull_the_plug(progress: Progress) -> None:
    """An observer: the machine refuses after the first epoch."""
    if progress.epoch > 1:
        raise OSError("the plug was pulled")


def records_of(out: Path) -> dict[tuple[str, int], dict]:
    records = [json.loads(path.read_text()) for path in (out / "cells").glob("*.json")]
    return {(record["method"], record["seed"]): record for record in records}


def populations_of(out: Path) -> dict[str, dict[str, torch.Tensor]]:
    """Every tensor of every finished member, and the averages, by training."""
    found: dict[str, dict[str, torch.Tensor]] = {}
    for pattern in ("*/state-*/member-*.safetensors", "*/average.safetensors"):
        for path in sorted((out / "trainings").glob(pattern)):
            training = path.relative_to(out / "trainings").parts[0]
            tensors = {f"{path.name}/{name}": t for name, t in load_file(path).items()}
            found.setdefault(training, {}).update(tensors)
    return found


def assert_same_bits(a: Path, b: Path) -> None:
    first, second = populations_of(a), populations_of(b)
    assert first.keys() == second.keys()
    assert first
    for training, tensors in first.items():
        for name, tensor in tensors.items():
            assert torch.equal(tensor, second[training][name]), (training, name)
        logs = [(out / "trainings" / training / "events.jsonl").read_text() for out in (a, b)]
        assert logs[0] == logs[1]
