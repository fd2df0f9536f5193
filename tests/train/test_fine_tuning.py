"""Fine-tuning's training: members' own hyperparameters, linear probing first."""

from __future__ import annotations

import copy
import itertools

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional as F

from tests.support.fine_tuning import HEAD, fine_tuning, loop_of, saved, tensors_of
from wash_bench.errors import UsageError
from wash_bench.plugins.registry import find_method
from wash_bench.runner.context import RunContext
from wash_bench.runner.experiment import run_experiment
from wash_bench.runner.training_setup import TrainingSetup
from wash_bench.train.checkpoint import pointer
from wash_bench.train.member_hparams import member_hyperparameters

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
    setting = TrainingSetup.of(tiny.training.model_copy(update=update))
    without = TrainingSetup.of(tiny.training.model_copy(update={"augment": "heterogeneous"}))
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


@pytest.mark.slow
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

    loop.engine.probe.begin_epoch(1)  # fine-tuning starts with a fresh optimizer
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
    run_experiment(config, entries, RunContext(out=tmp_path / "whole", threads=1))
    for end in (2, 4):  # the checkpoint before it stands: one in probing, one after

        def stop(progress, end=end) -> None:
            if progress.epoch >= end:
                raise _Stop

        out = tmp_path / f"killed-{end}"
        with pytest.raises(_Stop):
            run_experiment(config, entries, RunContext(out=out, threads=1, observer=stop))
        (training,) = out.glob("trainings/*")
        assert pointer(training)["folder"] == f"state-{end - 1}"
        kept = {f"state-{epoch}" for epoch in (end - 2, end - 1) if epoch}  # and the one before
        assert {left.name for left in training.glob("state-*")} == kept
        assert not run_experiment(config, entries, RunContext(out=out, threads=1)).failed
        for whole in (tmp_path / "whole").glob("trainings/*/state-*/member-*.safetensors"):
            again = load_file(out / whole.relative_to(tmp_path / "whole"))
            for name, tensor in load_file(whole).items():
                assert torch.equal(again[name], tensor), (end, name)


def test_a_network_without_a_classifier_of_its_own_is_not_probed(tiny, tmp_path, monkeypatch):
    path = saved(tmp_path / "ten.safetensors", 10)
    setting = TrainingSetup.of(fine_tuning(tiny, path, linear_probe=1))
    monkeypatch.setattr("wash_bench.runner.training_setup.head_parameters", lambda model: [])
    with pytest.raises(UsageError, match="no classifier of its own to probe: leave --linear-pr"):
        setting.check()
