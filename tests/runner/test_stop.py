"""Trainings that are saved and stopped within an epoch go on to the bits of undisturbed ones."""

from __future__ import annotations

import itertools
import json
import os
import random
import signal
import time
from pathlib import Path

import pytest

from tests.support.command import Command
from tests.support.images import class_folders
from tests.support.runs import assert_same_bits, entries_of
from wash_bench import stop
from wash_bench.config import RunConfig
from wash_bench.config.values import parse_interval
from wash_bench.runner.context import RunContext
from wash_bench.runner.experiment import run_experiment

OPTIONS = {
    "wash": {"p": 0.1},
    "wash-opt": {"p": 0.1},
    "papa": {"alpha": 0.9, "every": 3},
    "dart": {"every": 1},
    "diloco": {"every": 4},
    "streaming-diloco": {"every": 6},
    "swap": {"phase1": 0.5},
}


SMALL = {"model": "resnet8", "image_size": 8, "train_limit": 150, "batch_size": 16}
SGD = [*OPTIONS, "wash+ema", "papa+topk", "papa+overlap", "papa+int4", "lookaround", "swad"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "optimizer"),
    [*((name, "sgd") for name in SGD), ("wash-opt", "adamw"), ("papa+overlap", "adamw")],
)
def test_stopped_at_drawn_steps(
    tiny: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str, optimizer: str
) -> None:
    rate = {"sgd": 0.05, "adamw": 0.002}[optimizer]
    training = tiny.training.model_copy(update=SMALL | {"optimizer": optimizer, "lr": rate})
    name = method.partition("+")[0]
    config = tiny.model_copy(update={"training": training, "set": {name: OPTIONS.get(name, {})}})
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    assert not run_experiment(config, entries_of(method), RunContext(out=whole, threads=1)).failed

    draw = random.Random(f"{method} {optimizer}")
    within_epochs = 0
    for _ in range(20):
        asked, last = itertools.count(1), draw.randint(1, 6)
        monkeypatch.setattr(stop, "requested", lambda a=asked, b=last: int(next(a) >= b))
        try:
            outcome = run_experiment(config, entries_of(method), RunContext(out=stopped, threads=1))
        except KeyboardInterrupt:
            (state,) = stopped.glob("trainings/*/state.json")
            within_epochs += json.loads(state.read_text())["folder"].count("-") == 2
        else:
            assert not outcome.failed
            break
    assert within_epochs >= 2
    assert_same_bits(whole, stopped)


@pytest.mark.slow
def test_stopped_within_probing_and_the_first_epoch_behind_it(
    tiny: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The optimizer starts afresh once, when probing ends, and not where a run goes on."""
    training = tiny.training.model_copy(update={"epochs": 3, "linear_probe": 1})
    config = tiny.model_copy(update={"training": training, "checkpoint_every": "4steps"})
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    run_experiment(config, entries_of("papa"), RunContext(out=whole, threads=1))
    for last in (3, 9):
        asked = itertools.count(1)
        monkeypatch.setattr(stop, "requested", lambda a=asked, b=last: int(next(a) >= b))
        with pytest.raises(KeyboardInterrupt):
            run_experiment(config, entries_of("papa"), RunContext(out=stopped, threads=1))
    monkeypatch.undo()
    run_experiment(config, entries_of("papa"), RunContext(out=stopped, threads=1))
    assert_same_bits(whole, stopped)


LONG = ("--epochs=2", "--batch-size=4", "--population=2", "--barrier-points=3", "--threads=1")
LONG += ("--barrier-images=20", "--bn-images=32", "--barrier-bn-images=32", "--seeds=0")


def arguments_of(kind: str, folder: Path) -> list[str]:
    if kind == "image folder":
        images = class_folders(folder / "images", 280, 16, 16, test_count=20)
        data = ["--dataset", f"folder:{images}", "--image-size=16"]
        return [*data, "--model=resnet8", "--methods=wash"]
    methods = "wash,papa" if kind == "--jobs 2" else "wash"
    data = ["--dataset=digits", "--image-size=8", "--train-limit=320", "--model=resnet8"]
    more = {"--jobs 2": ["--jobs=2"], "--nproc 2": ["--nproc=2"]}
    return [*data, f"--methods={methods}", *more.get(kind, [])]


@pytest.mark.fault(
    "Kills and stops",
    "SIGTERM or Slurm's SIGUSR1 in the middle of an epoch",
    "the state is saved at the next step; exit 128 and the signal; the command resumes from it",
)
@pytest.mark.slow
@pytest.mark.parametrize("kind", ["one process", "--jobs 2", "--nproc 2", "image folder"])
def test_a_signal_saves_within_the_epoch(tmp_path: Path, kind: str) -> None:
    """A whole process group gets the signal, as schedulers send it, the loaders' workers too."""
    chosen = arguments_of(kind, tmp_path)
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    assert Command(["run", *chosen, *LONG, f"--out={whole}"]).wait(300) == 0
    number = signal.SIGUSR1 if kind == "one process" else signal.SIGTERM
    run = Command(
        ["run", *chosen, *LONG, "--checkpoint-every=10steps", f"--out={stopped}"], session=True
    )
    while not list(stopped.glob("trainings/*/state-0-10/method.safetensors")):
        assert run.poll() is None
        time.sleep(0.01)
    os.killpg(run.pid, number)
    _, err = run.communicate(timeout=60)
    assert run.returncode == 128 + number, err
    assert "Traceback" not in err
    assert signal.Signals(number).name in err.splitlines()[-1]
    states = [path.name for path in stopped.glob("trainings/*/state-0-*")]
    assert any(int(name.rpartition("-")[2]) > 10 for name in states), states
    again = Command(["run", *chosen, *LONG, f"--out={stopped}"])
    assert again.wait(300) == 0
    assert_same_bits(whole, stopped)


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("1", (1, "epochs")),
        (20, (20, "epochs")),
        ("2 epochs", (2, "epochs")),
        ("1epoch", (1, "epochs")),
        ("500steps", (500, "steps")),
        ("1step", (1, "steps")),
        ("15min", (15, "min")),
        ("15 minutes", (15, "min")),
    ],
)
def test_intervals(text: object, meant: tuple[int, str]) -> None:
    assert parse_interval(text) == meant
    again = RunConfig.model_validate({"checkpoint_every": text}).checkpoint_every
    assert parse_interval(again) == meant


@pytest.mark.parametrize("text", ["0", "-1", "1.5", "steps", "5 days", "", True, "0min", None])
def test_what_is_no_interval(text: object) -> None:
    with pytest.raises(ValueError, match="as 5, 500steps or 15min"):
        parse_interval(text)
