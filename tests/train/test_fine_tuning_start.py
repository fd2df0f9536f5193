"""Fine-tuning's start: whose tensors a checkpoint gives, and what is refused."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.support.fine_tuning import HEAD, fine_tuning, loop_of, network, saved, tensors_of
from wash_bench.errors import UsageError
from wash_bench.runner.training_setup import TrainingSetup


def _plain(path: Path, state: dict) -> None:
    torch.save(state, path)


def _timm(path: Path, state: dict) -> None:
    wrapped = {f"module.{name}": tensor for name, tensor in state.items()}
    torch.save(
        {"epoch": 3, "arch": "x", "args": argparse.Namespace(a=1), "state_dict": wrapped}, path
    )


def _ema(path: Path, state: dict) -> None:
    other = {name: torch.zeros_like(tensor) for name, tensor in state.items()}
    torch.save({"state_dict": other, "state_dict_ema": state}, path)


def _half(path: Path, state: dict) -> None:
    save_file({k: v.half() if v.is_floating_point() else v for k, v in state.items()}, path)


def _averaged(path: Path, state: dict) -> None:
    model = torch.optim.swa_utils.AveragedModel(network(10))
    model.module.load_state_dict(state)
    torch.save(model.state_dict(), path)


def _lightning(path: Path, state: dict) -> None:
    """A LightningModule with the network, a wrapper of its own around it, and a loss's weights."""
    held = {f"net.model.{name}": tensor for name, tensor in state.items()}
    torch.save({"state_dict": held | {"loss.weight": torch.ones(10)}, "epoch": 1}, path)


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("a.safetensors", lambda path, state: save_file(state, path)),
        ("half.safetensors", _half),
        ("a.pth", _plain),
        ("timm.pth.tar", _timm),
        ("ema.pt", _ema),
        ("averaged.pt", _averaged),
        ("lightning.ckpt", _lightning),
    ],
)
def test_all_members_are_the_checkpoint_at_step_0(tiny, tmp_path, name, write) -> None:
    state = network(10).state_dict()
    write(tmp_path / name, state)
    loop = loop_of(fine_tuning(tiny, tmp_path / name))
    for row in range(3):
        for key, tensor in tensors_of(loop, row).items():
            expected = state[key].half().float() if write is _half else state[key].float()
            assert torch.equal(tensor.float(), expected), key


def test_a_prefix_that_was_taken_off_is_told(tiny, tmp_path, capsys) -> None:
    _lightning(tmp_path / "a.ckpt", network(10).state_dict())
    TrainingSetup.of(fine_tuning(tiny, tmp_path / "a.ckpt")).check()
    assert "a.ckpt: read from under net.model., besides it loss.weight" in capsys.readouterr().err


@pytest.mark.fault(
    "Checkpoints and code", "a checkpoint in which the network stands twice", "refused in one line"
)
def test_a_network_that_stands_twice_is_refused(tiny, tmp_path) -> None:
    state = network(10).state_dict()
    twice = {f"{of}.{key}": value for of in ("model", "teacher") for key, value in state.items()}
    torch.save(twice, tmp_path / "a.ckpt")
    with pytest.raises(UsageError, match=r"2 times, under model\., teacher\."):
        TrainingSetup.of(fine_tuning(tiny, tmp_path / "a.ckpt")).network(0, 0)


def test_a_new_head_is_member_0s_for_all_and_is_told_of(tiny, tmp_path, capsys) -> None:
    """Other classes: the body is the checkpoint's, the head that of member 0's initialization."""
    path = saved(tmp_path / "five.safetensors", 5)
    setting = TrainingSetup.of(fine_tuning(tiny, path))
    population = setting.population(seed=3)
    assert torch.equal(population.weights[0], population.weights[1])
    assert torch.equal(population.weights[0], population.weights[2])
    shared = tiny.training.model_copy(update={"init": "shared"})
    fresh = TrainingSetup.of(shared).network(3, 0).state_dict()
    ours = population.named_tensors(population.state(1))
    for key, tensor in load_file(path).items():
        assert torch.equal(ours[key], fresh[key] if key in HEAD else tensor), key

    setting.check()
    err = capsys.readouterr().err
    assert err == (
        "wash-bench: note: five.safetensors: a new head for 10 classes (the checkpoint's fc.weight "
        "has 5)\n"
    )
    whole = TrainingSetup.of(fine_tuning(tiny, saved(tmp_path / "ten.safetensors", 10)))
    whole.check()
    assert capsys.readouterr().err == ""
    assert "its head included" in whole.about_start()


def test_a_checkpoint_without_a_head_gets_one(tiny, tmp_path) -> None:
    state = {k: v for k, v in network(10).state_dict().items() if k not in HEAD}
    save_file(state, tmp_path / "body.safetensors")
    setting = TrainingSetup.of(fine_tuning(tiny, tmp_path / "body.safetensors"))
    assert "a new head for 10 classes (it has none)" in setting.about_start()


@pytest.mark.fault(
    "Checkpoints and code", "a checkpoint of another network", "one line that names the tensors"
)
def test_tensors_that_do_not_fit_are_named(tiny, tmp_path) -> None:
    state = network(10).state_dict()
    state["conv1.0.weight"] = state["conv1.0.weight"].repeat(2, 1, 1, 1)
    del state["bn1.weight"]
    state |= {f"other.{i}": torch.zeros(1) for i in range(5)}
    save_file(state, tmp_path / "odd.safetensors")
    with pytest.raises(UsageError) as error:
        TrainingSetup.of(fine_tuning(tiny, tmp_path / "odd.safetensors")).check()
    line = str(error.value)
    assert "\n" not in line
    assert "does not fit model 'test_resnet': it lacks bn1.weight; it has besides other.0" in line
    assert "and 2 more" in line
    shape = tuple(network(10).state_dict()["conv1.0.weight"].shape)
    assert f"conv1.0.weight {(2 * shape[0], *shape[1:])} instead of {shape}" in line


class Payload:
    """What a checkpoint must not be able to do."""

    def __reduce__(self):
        return (Path.touch, (Path("touched"),))


@pytest.mark.fault(
    "Checkpoints and code",
    "a pickle with code, text, or a list as a checkpoint",
    "refused in one line; no code runs",
)
@pytest.mark.parametrize("kind", ["text", "pickle", "list"])
def test_what_is_no_checkpoint_is_refused_and_runs_no_code(
    tiny, tmp_path, monkeypatch, kind
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / ("x.safetensors" if kind == "text" else "x.pth")
    if kind == "text":
        path.write_text("no tensors here")
    else:
        torch.save({"state_dict": Payload()} if kind == "pickle" else [torch.zeros(2)], path)
    with pytest.raises(UsageError, match=f"--init checkpoint:{path}: ") as error:
        TrainingSetup.of(fine_tuning(tiny, path)).check()
    assert "\n" not in str(error.value)
    assert not (tmp_path / "touched").exists()
