"""Fine-tuning: starting from a checkpoint, members' own hyperparameters, linear probing first."""

from __future__ import annotations

import argparse
import copy
import itertools
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

from wash_bench.cli.main import run_command
from wash_bench.config import RunConfig, TrainingConfig
from wash_bench.core.exchange import LocalExchange
from wash_bench.data.scan import Folders
from wash_bench.data.subset import folders_of_classes
from wash_bench.errors import UsageError
from wash_bench.methods.naive_ensemble import NaiveEnsemble
from wash_bench.models.build import build_model
from wash_bench.plugins.registry import find_method
from wash_bench.record import identity
from wash_bench.runner.context import RunContext
from wash_bench.runner.experiment import run_experiment, tasks_of
from wash_bench.runner.setting import Setting
from wash_bench.settings.resolve import resolve
from wash_bench.train.loop import Loop
from wash_bench.train.vary import member_hyperparameters

HEAD = ("fc.weight", "fc.bias")


def network(classes: int, seed: int = 1) -> nn.Module:
    """The tests' network, its BatchNorm statistics not those of a fresh one."""
    model = build_model("test_resnet", classes=classes, channels=1, size=16, seed_value=seed)
    generator = torch.Generator().manual_seed(seed)
    for name, buffer in model.named_buffers():
        if buffer.is_floating_point():
            buffer.copy_(torch.rand(buffer.shape, generator=generator) + 0.5)
        elif name.endswith("num_batches_tracked"):
            buffer.fill_(77)
    return model


def saved(path: Path, classes: int, seed: int = 1) -> Path:
    save_file(network(classes, seed).state_dict(), path)
    return path


def fine_tuning(tiny: RunConfig, path: Path, **more) -> TrainingConfig:
    given = tiny.training.model_dump() | {"init": f"checkpoint:{path}", "train_limit": 128} | more
    return TrainingConfig.model_validate(given)


def loop_of(config: TrainingConfig, seed: int = 0) -> Loop:
    setting = Setting.of(config)
    population = setting.population(seed)
    exchange = LocalExchange(population.n, seed)
    recipes = setting.recipes(seed)
    return Loop(
        config,
        NaiveEnsemble(),
        population,
        exchange,
        setting.data,
        recipes,
        seed,
        setting.schedule,
    )


def tensors_of(loop: Loop, row: int) -> dict[str, Tensor]:
    return loop.population.named_tensors(loop.population.state(row))


# The start -----------------------------------------------------------------------------------


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


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("a.safetensors", lambda path, state: save_file(state, path)),
        ("half.safetensors", _half),
        ("a.pth", _plain),
        ("timm.pth.tar", _timm),
        ("ema.pt", _ema),
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


def test_a_new_head_is_member_0s_for_all_and_is_told_of(tiny, tmp_path, capsys) -> None:
    """Other classes: the body is the checkpoint's, the head that of member 0's initialization."""
    path = saved(tmp_path / "five.safetensors", 5)
    setting = Setting.of(fine_tuning(tiny, path))
    population = setting.population(seed=3)
    assert torch.equal(population.weights[0], population.weights[1])
    assert torch.equal(population.weights[0], population.weights[2])
    shared = tiny.training.model_copy(update={"init": "shared"})
    fresh = Setting.of(shared).network(3, 0).state_dict()
    ours = population.named_tensors(population.state(1))
    for key, tensor in load_file(path).items():
        assert torch.equal(ours[key], fresh[key] if key in HEAD else tensor), key

    setting.check()
    err = capsys.readouterr().err
    assert err == (
        "wash-bench: note: five.safetensors: a new head for 10 classes (the checkpoint's fc.weight "
        "has 5)\n"
    )
    whole = Setting.of(fine_tuning(tiny, saved(tmp_path / "ten.safetensors", 10)))
    whole.check()
    assert capsys.readouterr().err == ""
    assert "its head included" in whole.about_start()


def test_a_checkpoint_without_a_head_gets_one(tiny, tmp_path) -> None:
    state = {k: v for k, v in network(10).state_dict().items() if k not in HEAD}
    save_file(state, tmp_path / "body.safetensors")
    setting = Setting.of(fine_tuning(tiny, tmp_path / "body.safetensors"))
    assert "a new head for 10 classes (it has none)" in setting.about_start()


def test_tensors_that_do_not_fit_are_named(tiny, tmp_path) -> None:
    state = network(10).state_dict()
    state["conv1.0.weight"] = state["conv1.0.weight"].repeat(1, 3, 1, 1)
    del state["bn1.weight"]
    state |= {f"other.{i}": torch.zeros(1) for i in range(5)}
    save_file(state, tmp_path / "odd.safetensors")
    with pytest.raises(UsageError) as error:
        Setting.of(fine_tuning(tiny, tmp_path / "odd.safetensors")).check()
    line = str(error.value)
    assert "\n" not in line
    assert "does not fit model 'test_resnet': it lacks bn1.weight; it has besides other.0" in line
    assert "and 2 more" in line
    shape = tuple(network(10).state_dict()["conv1.0.weight"].shape)
    assert f"conv1.0.weight {(shape[0], 3, *shape[2:])} instead of {shape}" in line


class Payload:
    """What a checkpoint must not be able to do."""

    def __reduce__(self):
        return (Path.touch, (Path("touched"),))


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
        Setting.of(fine_tuning(tiny, path)).check()
    assert "\n" not in str(error.value)
    assert not (tmp_path / "touched").exists()


# The grid ------------------------------------------------------------------------------------


def test_the_grid_is_drawn_as_stated() -> None:
    grid = {"lr": (0.1, 0.03), "weight_decay": (0.0, 1e-4, 1e-3)}
    everything = [dict(zip(grid, c, strict=True)) for c in itertools.product(*grid.values())]
    drawn = [member_hyperparameters(grid, 0, member) for member in range(12)]
    assert sorted(drawn[:6], key=str) == sorted(everything, key=str)
    assert drawn[6:] == drawn[:6]  # more members than combinations
    assert drawn[:6] != everything  # shuffled
    assert any(member_hyperparameters(grid, seed, 0) != drawn[0] for seed in range(1, 5))


def test_each_member_trains_with_its_own_rate_and_decay(tiny, tmp_path) -> None:
    """Against SGD with momentum written out, tensor by tensor."""
    grid = {"lr": [0.05, 0.01], "weight_decay": [0.0, 0.05]}
    path = saved(tmp_path / "five.safetensors", 5)
    config = fine_tuning(tiny, path, vary=grid, channels_last=False)
    loop = loop_of(config)
    schedule = loop.schedule
    starts = [copy.deepcopy(module) for module in loop.population.modules]
    loop.epoch(0, lambda pulse: None)
    drawn = [member_hyperparameters(config.vary, 0, member) for member in range(3)]
    assert len({tuple(own.values()) for own in drawn}) == 3
    for member, (own, model) in enumerate(zip(drawn, starts, strict=True)):
        velocity: dict[str, Tensor] = {}
        for parameter in model.parameters():
            parameter.grad = None
        batches = loop.data.epoch_batches(0, member, 0, config.batch_size, loop.recipes[member])
        for step, batch in enumerate(batches):
            model.zero_grad()
            F.cross_entropy(model(batch.images), batch.targets).backward()
            # Cosine from the member's own rate, to as small a share of it as the base falls to.
            rate = own["lr"] * schedule.at(step) / config.lr
            with torch.no_grad():
                for name, weight in model.named_parameters():
                    slope = weight.grad + own["weight_decay"] * weight
                    velocity[name] = config.momentum * velocity.get(name, 0) + slope
                    weight -= rate * velocity[name]
        ours = tensors_of(loop, member)
        for name, tensor in model.state_dict().items():
            torch.testing.assert_close(ours[name], tensor, rtol=1e-4, atol=1e-5, msg=name)


def test_regularization_varies_beside_heterogeneous_augmentation(tiny) -> None:
    vary = {"label_smoothing": (0.2, 0.3), "lr": (0.01,)}
    update = {"augment": "heterogeneous", "vary": vary}
    setting = Setting.of(tiny.training.model_copy(update=update))
    without = Setting.of(tiny.training.model_copy(update={"augment": "heterogeneous"}))
    drawn = setting.hyperparameters(0)
    for recipe, base, own in zip(setting.recipes(0), without.recipes(0), drawn, strict=True):
        assert recipe == base.but(label_smoothing=own["label_smoothing"])
        assert recipe.label_smoothing in (0.2, 0.3)


def test_without_a_grid_nothing_changes(tiny) -> None:
    """A grid of the configuration's own values gives the same bits as none."""
    training = tiny.training.model_copy(update={"train_limit": 64, "init": "shared"})
    same = training.model_copy(update={"vary": {"lr": (0.05,), "weight_decay": (1e-4,)}})
    first, second = loop_of(training), loop_of(same)
    for loop in (first, second):
        loop.epoch(0, lambda pulse: None)
    assert torch.equal(first.population.weights, second.population.weights)


# Probing -------------------------------------------------------------------------------------


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_probing_trains_the_head_alone_and_the_same_for_all(tiny, tmp_path, optimizer) -> None:
    path = saved(tmp_path / "five.safetensors", 5)
    vary = {"lr": [0.01, 0.002], "weight_decay": [0.01, 0.1]}
    more = {"optimizer": optimizer, "lr": 0.02, "vary": vary, "linear_probe": 1, "epochs": 3}
    config = fine_tuning(tiny, path, **more)
    loop = loop_of(config)
    population = loop.population
    start = {name: tensor.clone() for name, tensor in tensors_of(loop, 0).items()}
    model = copy.deepcopy(population.modules[0])
    loop.epoch(0, lambda pulse: None)

    head = torch.zeros(population.layout.size, dtype=torch.bool)
    for piece in population.layout.slices:
        head[piece.offset : piece.stop] = piece.name in HEAD
    for row in range(3):
        assert torch.equal(population.weights[row], population.weights[0])
        for name, tensor in tensors_of(loop, row).items():  # BatchNorm statistics too
            assert torch.equal(tensor, start[name]) is (name not in HEAD), name
    for rows in population.optimizer_state.values():
        assert not rows[:, ~head].any()
        assert rows[:, head].any()

    # The same as a linear classifier on fixed features, trained by torch's per-tensor optimizer.
    own = member_hyperparameters(config.vary, 0, 0)
    model.eval().requires_grad_(False)
    model.fc.requires_grad_(True)
    for parameter in model.fc.parameters():
        parameter.grad = None
    options = {"lr": own["lr"], "weight_decay": own["weight_decay"]}
    plain = (
        torch.optim.AdamW(model.fc.parameters(), **options)
        if optimizer == "adamw"
        else torch.optim.SGD(model.fc.parameters(), momentum=config.momentum, **options)
    )
    for step, batch in enumerate(loop.data.epoch_batches(0, 0, 0, 32, loop.recipes[0])):
        plain.param_groups[0]["lr"] = own["lr"] * loop.schedule.at(step) / config.lr
        plain.zero_grad()
        F.cross_entropy(model(batch.images), batch.targets).backward()
        plain.step()
    for name in HEAD:
        expected = model.state_dict()[name]
        torch.testing.assert_close(tensors_of(loop, 2)[name], expected, rtol=1e-4, atol=1e-5)

    loop.probe.begin_epoch(1)  # fine-tuning starts with a fresh optimizer
    assert not any(rows.any() for rows in population.optimizer_state.values())
    assert not population.optimizer_steps.any()
    loop.epoch(1, lambda pulse: None)
    for row in range(3):
        moved = {n for n, t in tensors_of(loop, row).items() if not torch.equal(t, start[n])}
        assert moved == set(start)
    assert not torch.equal(population.weights[0], population.weights[1])
    assert all(p.requires_grad for module in population.modules for p in module.parameters())


class _Stop(BaseException):
    """Ends a run where a test wants it."""


@pytest.mark.slow
def test_resume_in_probing_and_after_it_gives_the_same_bits(tiny, tmp_path) -> None:
    path = saved(tmp_path / "five.safetensors", 5)
    more = {"linear_probe": 2, "epochs": 4, "train_limit": 64, "optimizer": "adamw", "lr": 0.005}
    training = fine_tuning(tiny, path, vary=["lr=0.005,0.002", "mixup=0,0.5"], **more)
    config = tiny.model_copy(update={"training": training, "set": {"wash": {"p": 0.1}}})
    entries = [find_method("wash")]
    run_experiment(config, entries, RunContext(tmp_path / "whole", threads=1))
    for end in (2, 4):  # the checkpoint before it stands: one in probing, one after

        def stop(progress, end=end) -> None:
            if progress.epoch >= end:
                raise _Stop

        out = tmp_path / f"killed-{end}"
        with pytest.raises(_Stop):
            run_experiment(config, entries, RunContext(out, threads=1, observer=stop))
        (left,) = out.glob("trainings/*/state-*")
        assert left.name == f"state-{end - 1}"
        assert not run_experiment(config, entries, RunContext(out, threads=1)).failed
        for whole in (tmp_path / "whole").glob("trainings/*/state-*/member-*.safetensors"):
            again = load_file(out / whole.relative_to(tmp_path / "whole"))
            for name, tensor in load_file(whole).items():
                assert torch.equal(again[name], tensor), (end, name)


def test_a_network_without_a_classifier_of_its_own_is_not_probed(tiny, tmp_path, monkeypatch):
    path = saved(tmp_path / "ten.safetensors", 10)
    setting = Setting.of(fine_tuning(tiny, path, linear_probe=1))
    monkeypatch.setattr("wash_bench.runner.setting.head_parameters", lambda model: [])
    with pytest.raises(UsageError, match="no classifier of its own to probe: leave --linear-pr"):
        setting.check()


# Classes and identity ------------------------------------------------------------------------


def test_chosen_classes_are_the_data_sets_own_images_relabelled(tiny) -> None:
    training = tiny.training.model_copy(update={"train_limit": 0})
    full = Setting.of(training).data
    part = Setting.of(training.model_copy(update={"classes": "2,5,7"})).data
    assert part.classes == 3

    def images(data, wanted) -> list[tuple[int, bytes]]:
        found = [
            (wanted.index(label), image.numpy().tobytes())
            for batch, labels in data.eval_batches("test")
            for image, label in zip(batch, labels.tolist(), strict=True)
            if label in wanted
        ]
        return sorted(found)

    assert images(part, [0, 1, 2]) == images(full, [2, 5, 7])
    assert part.train_size + part.val_size == sum(
        int(np.isin(full.split_labels[split], [2, 5, 7]).sum()) for split in ("train", "val")
    )


def test_chosen_class_folders() -> None:
    files = (["a1", "b1", "c1", "c2"], np.array([0, 1, 2, 2]))
    part = folders_of_classes(Folders(("a", "b", "c"), files, files), (0, 2))
    assert part.classes == ("a", "c")
    for paths, labels in (part.train, part.test):
        assert paths == ["a1", "c1", "c2"]
        assert labels.tolist() == [0, 1, 1]


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("0-4", "0,1,2,3,4"),
        ("7, 2,5", "2,5,7"),
        ([1, 0], "0,1"),
        ("0-1,8-9", "0,1,8,9"),
        ("all", "all"),
    ],
)
def test_classes_are_kept_in_one_spelling(given, meant) -> None:
    assert TrainingConfig(classes=given).classes == meant


def test_the_identity_is_that_of_the_content(tiny, tmp_path, monkeypatch) -> None:
    def ids(**more) -> tuple[str, str]:
        training = tiny.training.model_copy(update=more)
        (task,) = tasks_of(tiny.model_copy(update={"training": training}), [find_method("papa")])
        return task.training_id, task.cells[0].cell_id

    (tmp_path / "elsewhere").mkdir()
    first = saved(tmp_path / "a.safetensors", 5)
    same = saved(tmp_path / "elsewhere" / "b.safetensors", 5)
    before = ids(init=f"checkpoint:{first}")
    assert before == ids(init=f"checkpoint:{same}")
    monkeypatch.chdir(tmp_path)
    assert before == ids(init="checkpoint:a.safetensors")
    saved(first, 5, seed=2)  # other weights under the old name, of the same length
    after = ids(init=f"checkpoint:{first}")
    assert after[0] != before[0] and after[1] != before[1]

    others = [ids(), ids(vary={"lr": (0.1,)}), ids(linear_probe=1), ids(classes="0,1"), after]
    assert len(set(others)) == 5
    orders = [
        TrainingConfig(vary=v).vary for v in (["lr=1,2", "mixup=0,1"], ["mixup=0,1", "lr=1,2"])
    ]
    assert list(orders[0]) == list(orders[1])  # one product, hence one draw

    hashed = []
    monkeypatch.setattr(identity, "fingerprint", lambda data: hashed.append(data) or "0" * 8)
    ids()
    assert hashed
    assert not any({"vary", "linear_probe", "classes"} & data.keys() for data in hashed)


# The command line ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        ({"init": "shard"}, ["--init shard", "independent, shared or checkpoint:PATH"]),
        ({"init": "checkpoint:"}, ["--init checkpoint:", "checkpoint:PATH"]),
        ({"vary": ["lr"]}, ["--vary lr", "above 0"]),
        ({"vary": ["lr=0.1,0"]}, ["lr=0", "above 0"]),
        ({"vary": ["lr=nan"]}, ["lr=nan", "above 0"]),
        ({"vary": ["lr=0.1,0.1"]}, ["different values"]),
        ({"vary": ["lr=0.1", "lr=0.2"]}, ["lr is given twice"]),
        ({"vary": ["epochs=1,2"]}, ["'epochs' cannot vary", "weight_decay"]),
        ({"vary": ["label-smoothing=0,2"]}, ["label_smoothing=2", "from 0 to 1"]),
        ({"linear_probe": "1"}, ["--linear-probe 1 needs --init checkpoint:PATH"]),
        ({"linear_probe": "2", "epochs": "2", "init": "checkpoint:x"}, ["not below --epochs 2"]),
        ({"classes": "4"}, ["--classes 4", "at least two"]),
        ({"classes": "4-1"}, ["--classes 4-1", "at least two"]),
        ({"classes": "0-3,2"}, ["names a class twice"]),
        ({"classes": "half"}, ["--classes half", "0-4"]),
    ],
)
def test_mistakes_are_one_line(options, parts) -> None:
    with pytest.raises(UsageError) as error:
        resolve("digits", None, options)
    assert "\n" not in str(error.value)
    for part in parts:
        assert part in str(error.value)


def test_a_missing_file_or_class_is_told_before_anything_is_made(tmp_path, capsys) -> None:
    out = f"--out={tmp_path / 'runs'}"
    assert run_command(["run", "--init", f"checkpoint:{tmp_path}/x.pth", out]) == 2
    line = capsys.readouterr().err
    assert line.startswith("wash-bench: error: --init checkpoint:") and line.count("\n") == 1
    assert "the file is not there" in line
    assert run_command(["run", "--classes", "5-10", out]) == 2
    assert "digits has no class 10; its 10 are 0 to 9" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


def test_the_presets_belong_together() -> None:
    first, second = (resolve(n, None, {}).config for n in ("fine-tuning-checkpoint", "fine-tuning"))
    assert (first.training.model, first.training.stem) == (
        second.training.model,
        second.training.stem,
    )
    assert first.training.dataset == second.training.dataset
    assert second.training.population == 5
    assert set(second.training.vary) == {"lr", "weight_decay", "label_smoothing"}


@pytest.mark.slow
def test_from_half_of_the_classes_to_all_of_them(tmp_path, capsys) -> None:
    """The whole way on the command line: a checkpoint from an average, soups of it, the report."""
    small = "--train-limit 100 --image-size 16 --val-share 0.1 --barrier-points 3 --stem keep"
    small += " --barrier-images 20 --barrier-bn-images 32 --bn-images 32 --batch-size 25"
    runs = tmp_path / "runs"
    code = run_command(
        ["run", "fine-tuning-checkpoint", "--methods", "papa", "--dataset", "digits", "--epochs",
         "1", *small.split(), "--no-report", "--out", str(runs / "base")]
    )  # fmt: skip
    assert code == 0, capsys.readouterr().err
    (average,) = runs.glob("base/trainings/*/average.safetensors")
    assert len(load_file(average)["fc.bias"]) == 5
    capsys.readouterr()
    command = ["run", "fine-tuning", "--dataset", "digits", "--epochs", "2", "--seeds", "0",
               *small.split(), "--init", f"checkpoint:{average}", "--augment", "heterogeneous",
               "--vary", "lr=0.05,0.01", "--vary", "weight-decay=0,0.001", "--population", "3",
               "--methods", "greedy-soup,naive-ensemble", "--out", str(runs / "tuned")]  # fmt: skip
    assert run_command(command) == 0
    assert "note: average.safetensors: a new head for 10 classes" in capsys.readouterr().err
    (path,) = runs.glob("tuned/trainings/*/training.json")
    about = json.loads(path.read_text())
    grid = {"lr": (0.05, 0.01), "weight_decay": (0.0, 0.001)}
    assert about["hyperparameters"] == [member_hyperparameters(grid, 0, i) for i in range(3)]
    assert about["config"]["training"]["vary"] == {key: list(v) for key, v in grid.items()}
    assert about["start"].startswith("average.safetensors: a new head for 10 classes")

    table = (runs / "tuned/report/table.md").read_text()
    start = "initial weights of checkpoint average.safetensors, its classifier alone trained"
    assert f"{start} for 1 epoch first" in table
    assert "combination of lr=0.05,0.01 weight_decay=0,0.001" in table
    summary = pd.read_csv(runs / "tuned/report/summary.csv")
    assert set(summary["linear_probe"]) == {1} and "classes" not in summary
    environment = pd.read_csv(runs / "tuned/report/environment.csv")
    told = environment["hyperparameters"][0].split("; ")
    assert told[0] == " ".join(f"{k}={v:g}" for k, v in about["hyperparameters"][0].items())
