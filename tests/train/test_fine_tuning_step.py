"""What fine-tuners ask of a step, against the same written out in plain torch."""

from __future__ import annotations

import copy
import re

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn import functional as F

from tests.support.command import command
from tests.support.fine_tuning import fine_tuning, loop_of, saved, tensors_of
from tests.support.populations import small_population
from tests.support.records import write_cell
from wash_bench.config import RunConfig, TrainingConfig
from wash_bench.data.source import Batch
from wash_bench.errors import UsageError
from wash_bench.models.batchnorm import freeze
from wash_bench.models.build import build_model
from wash_bench.plugins.registry import find_method
from wash_bench.report import write
from wash_bench.report.read import frames
from wash_bench.runner.context import RunContext
from wash_bench.runner.experiment import run_experiment
from wash_bench.runner.training_setup import TrainingSetup
from wash_bench.study.cells import cells_of
from wash_bench.train.engine import parts_of
from wash_bench.train.loss import CompiledLoss, EagerLoss
from wash_bench.train.optim import RowOptimizer

STEPS = 3  # of an epoch
DECAY = 0.6
ALL = {"freeze_bn": True, "layer_decay": DECAY, "clip_grad": 0.5, "accumulate": 4}


def depth(name: str) -> int:
    """Layers of a test_resnet from the head down: fc, layer4 to layer1, the stem."""
    block = re.match(r"layer(\d)", name)
    return 0 if name.startswith("fc") else 5 - int(block[1]) if block else 5


def in_plain_torch(config: TrainingConfig, model: nn.Module, batches: list[Batch], rates) -> None:
    """Three steps of a network, each option of fine-tuning as its definition says."""
    norms = [layer for layer in model.modules() if isinstance(layer, nn.BatchNorm2d)]
    frozen = {id(p) for layer in norms for p in layer.parameters()} if config.freeze_bn else set()
    model.train()
    for parameter in model.parameters():
        parameter.grad = None
    for layer in norms if config.freeze_bn else ():
        layer.eval()
    groups = [
        {"params": [p], "scale": config.layer_decay ** depth(name)}
        for name, p in model.named_parameters()
        if id(p) not in frozen
    ]
    options = {"weight_decay": config.weight_decay, "lr": config.lr}
    optimizer = (
        torch.optim.AdamW(groups, **options)
        if config.optimizer == "adamw"
        else torch.optim.SGD(groups, momentum=config.momentum, **options)
    )
    for batch, rate in zip(batches, rates, strict=True):
        optimizer.zero_grad()
        parts = (tensor.chunk(config.accumulate) for tensor in batch)
        for image, target in zip(*parts, strict=True):
            with torch.autocast("cpu", torch.bfloat16, enabled=config.amp == "bf16"):
                scores = model(image)
            (F.cross_entropy(scores.float(), target) / config.accumulate).backward()
        trained = [p for group in groups for p in group["params"]]
        if config.clip_grad:
            norm = torch.stack([p.grad.square().sum() for p in trained]).sum().sqrt()
            for parameter in trained:
                parameter.grad *= min(1.0, config.clip_grad / norm.item())
        for group in optimizer.param_groups:
            group["lr"] = rate * group["scale"]
        optimizer.step()


@pytest.mark.parametrize(
    ("options", "amp"),
    [
        *(({key: value}, "off") for key, value in ALL.items()),
        (ALL, "off"),
        (ALL | {"optimizer": "adamw", "lr": 0.01}, "off"),
        # At 16 px the last stage sees one pixel: there oneDNN's gradients of 16 bits read memory
        # that was never written, on some CPUs.
        (ALL | {"batch_size": 16, "image_size": 32}, "bf16"),
    ],
    ids=[*ALL, "all", "all-adamw", "all-bf16"],
)
def test_three_steps_are_those_of_plain_torch(tiny: RunConfig, tmp_path, options, amp) -> None:
    path = saved(tmp_path / "ten.safetensors", 10)
    more = {"population": 2, "channels_last": False, "amp": amp}
    more["train_limit"] = STEPS * options.get("batch_size", 32)
    config = fine_tuning(tiny, path, **more, **options)
    loop = loop_of(config)
    model = copy.deepcopy(loop.population.modules[1])
    assert loop.schedule.steps_per_epoch == STEPS
    batches = list(loop.data.epoch_batches(0, 1, 0, config.batch_size, loop.recipes[1]))
    loop.epoch(0, lambda pulse: None)
    start = load_file(path)
    in_plain_torch(config, model, batches, [loop.schedule.at(step) for step in range(STEPS)])
    ours = tensors_of(loop, 1)
    # What 16 bits round differs between two orders of a sum.
    close = {"rtol": 1e-4, "atol": 2e-5} if amp == "off" else {"rtol": 2e-2, "atol": 5e-3}
    for name, tensor in model.state_dict().items():
        torch.testing.assert_close(ours[name], tensor, **close, msg=lambda m, n=name: f"{n}: {m}")
        if config.freeze_bn and ("bn" in name or "downsample.2" in name):
            assert torch.equal(ours[name], start[name]), name
    moved = {name for name in start if not torch.equal(ours[name], start[name])}
    assert {"conv1.0.weight", "fc.bias"} <= moved


def test_accumulated_parts_make_the_large_batch_without_batchnorm(tiny: RunConfig) -> None:
    network = {"model": "test_vit", "model_args": {}, "population": 2, "train_limit": 77}
    weights, losses = [], []
    for parts in (1, 4):  # the last batch is short
        loop = loop_of(tiny.training.model_copy(update=network | {"accumulate": parts}))
        losses.append(loop.epoch(0, lambda pulse: None))
        weights.append(loop.population.weights)
    torch.testing.assert_close(losses[0], losses[1], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(weights[0], weights[1], rtol=1e-4, atol=1e-5)
    assert not torch.equal(*weights)  # in parts indeed


@pytest.mark.parametrize(
    ("images", "size", "found"),
    [(8, 4, [4, 4]), (9, 4, [3, 3, 3]), (5, 2, [3, 2]), (3, 2, [3]), (1, 4, [1]), (4, 4, [4])],
)
def test_no_part_is_a_single_image(images: int, size: int, found: list[int]) -> None:
    batch = Batch(torch.arange(images), torch.arange(images))
    parts = parts_of(batch, size)
    assert [len(part.images) for part in parts] == found
    assert torch.equal(torch.cat([part.targets for part in parts]), batch.targets)


def test_a_vits_layers_are_timms_groups(tiny: RunConfig) -> None:
    network = {"model": "test_vit", "model_args": {}, "layer_decay": 0.5, "weight_decay": 0.0}
    first = {"momentum": 0.0, "population": 2, "train_limit": 32, "epochs": 1}
    moved = []
    for decay in (1.0, 0.5):
        config = tiny.training.model_copy(update=network | first | {"layer_decay": decay})
        loop = loop_of(config)
        before = tensors_of(loop, 0)
        loop.epoch(0, lambda pulse: None)
        moved.append({name: tensor - before[name] for name, tensor in tensors_of(loop, 0).items()})
    powers = {"head.weight": 0, "norm.bias": 1, "blocks.5.mlp.fc1.weight": 1}
    powers |= {"blocks.0.mlp.fc2.bias": 6, "patch_embed.proj.weight": 7}
    for name, power in powers.items():
        expected = moved[0][name] * 0.5**power
        torch.testing.assert_close(moved[1][name], expected, rtol=1e-3, atol=1e-7)


def test_drop_path_is_timms(tiny: RunConfig) -> None:
    network = {"model": "test_vit", "model_args": {}, "drop_path": 0.3}
    module = TrainingSetup.of(tiny.training.model_copy(update=network)).network(0, 0)
    args = {"drop_path_rate": 0.3}
    theirs = build_model("test_vit", classes=10, channels=1, size=16, model_args=args, seed_value=0)
    rates = [
        [round(layer.drop_prob, 6) for layer in net.modules() if hasattr(layer, "drop_prob")]
        for net in (module, theirs)
    ]
    assert rates[0] == rates[1] and max(rates[0]) == 0.3


def test_rows_of_their_own_take_the_same_steps(tiny: RunConfig, tmp_path, monkeypatch) -> None:
    """With gradient rows as CUDA graphs have them."""
    path = saved(tmp_path / "ten.safetensors", 10)
    config = fine_tuning(tiny, path, **ALL, population=2, train_limit=72, epochs=1)
    weights = []
    for own in (False, True):
        monkeypatch.setattr(TrainingSetup, "own_gradients", own)
        loop = loop_of(config)
        loop.epoch(0, lambda pulse: None)
        weights.append(loop.population.weights)
    assert torch.equal(*weights)


def test_the_compiled_network_is_frozen_too(monkeypatch) -> None:
    compile_all = torch.compile  # without Inductor, whose C++ takes long
    monkeypatch.setattr(
        torch, "compile", lambda f, dynamic, options: compile_all(f, backend="aot_eager")
    )
    population = small_population(2)
    population.buffers.abs_().add_(0.5)  # as variances are
    for module in population.modules:
        freeze(module)
    compiled = CompiledLoss(population, "off", 8, frozen=True)
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(8, 3, 12, 12, generator=generator)
    batch = Batch(images, torch.randint(3, (8,), generator=generator))
    before, found = population.buffers.clone(), []
    for loss in (EagerLoss(population, "off"), compiled):
        population.gradient_row(1).zero_()
        loss(1, batch).backward()
        found.append(population.gradient_row(1).clone())
    torch.testing.assert_close(*found, rtol=1e-4, atol=1e-6)
    assert torch.equal(population.buffers, before)


def test_clipping_undoes_the_loss_scale_first() -> None:
    """Under fp16's loss scale the gradient is clipped by its own norm, not by the scaled one."""
    config = TrainingConfig(clip_grad=0.1, momentum=0.0, weight_decay=0.0)
    moved = []
    for scaler in (None, torch.amp.GradScaler("cpu")):
        population = small_population(1)
        before = population.weights.clone()
        gradient = torch.randn(population.layout.size, generator=torch.Generator().manual_seed(0))
        factor = 1.0 if scaler is None else scaler.scale(torch.ones(())).item()
        population.gradient_row(0).copy_(gradient * factor)
        RowOptimizer(population, config).step(0, 0.5, scaler)
        moved.append(population.weights - before)
    assert factor > 1000
    torch.testing.assert_close(*moved, rtol=1e-3, atol=1e-6)
    assert moved[0].norm().item() == pytest.approx(0.5 * 0.1, rel=1e-3)


@pytest.mark.parametrize(
    ("option", "told"),
    [
        ("--no-freeze-bn", "BatchNorm trained: statistics begin"),
        ("--freeze-bn", "BatchNorm frozen"),
    ],
)
def test_plan_tells_what_becomes_of_batchnorm(option, told, tmp_path, capsys) -> None:
    path = saved(tmp_path / "ten.safetensors", 10)
    given = ["digits", "--methods=wash", "--seeds=0", f"--init=checkpoint:{path}", option]
    code, shown, _ = command(capsys, "plan", *given, f"--out={tmp_path / 'r'}")
    assert code == 0 and told in " ".join(shown.split())


def test_a_table_tells_what_was_asked_of_the_step(tmp_path) -> None:
    step = {"freeze_bn": True, "layer_decay": 0.75, "clip_grad": 1.0}
    write_cell(tmp_path / "with", "wash", 0, init="checkpoint:x.safetensors", **step)
    write_cell(tmp_path / "without", "wash", 0)
    texts = [
        " ".join(write.markdown(frames.load([tmp_path / name])).split())
        for name in ("with", "without")
    ]
    told = ", layer-wise learning-rate decay 0.75, gradient norm at most 1, BatchNorm frozen."
    assert told in texts[0] and "parts" not in texts[0]
    assert not any(word in texts[1] for word in ("decay 0", "gradient norm", "frozen"))


class _Stop(BaseException):
    """Ends a run where a test wants it."""


@pytest.mark.slow
def test_resumed_to_the_same_bits(tiny: RunConfig, tmp_path) -> None:
    path = saved(tmp_path / "ten.safetensors", 10)
    more = {"drop_path": 0.2, "optimizer": "adamw", "lr": 0.005, "train_limit": 64}
    more |= {"linear_probe": 1, "epochs": 3, "population": 2}
    training = fine_tuning(tiny, path, **ALL, **more)
    config = tiny.model_copy(update={"training": training, "set": {"wash-opt": {"p": 0.1}}})
    entries = [find_method("wash-opt")]
    assert not run_experiment(config, entries, RunContext(out=tmp_path / "whole")).failed

    def stop(progress) -> None:
        if progress.epoch >= 3:
            raise _Stop

    with pytest.raises(_Stop):
        run_experiment(config, entries, RunContext(out=tmp_path / "again", observer=stop))
    assert not run_experiment(config, entries, RunContext(out=tmp_path / "again")).failed
    found = list((tmp_path / "whole").glob("trainings/*/state-*/member-*.safetensors"))
    assert len(found) >= 2
    for whole in found:
        again = load_file(tmp_path / "again" / whole.relative_to(tmp_path / "whole"))
        assert all(torch.equal(again[name], t) for name, t in load_file(whole).items())
    (about,) = (tmp_path / "whole").glob("trainings/*/training.json")
    assert "BatchNorm frozen" in about.read_text()


def test_each_is_part_of_the_identity(tiny: RunConfig) -> None:
    def cell(**more) -> str:
        config = tiny.model_copy(update={"training": tiny.training.model_copy(update=more)})
        (cell,) = cells_of(config, [find_method("wash")])
        return cell.training_id

    changes = [{}, *({key: value} for key, value in ALL.items()), {"drop_path": 0.1}]
    assert len({cell(**change) for change in changes}) == len(changes)
    assert "freeze_bn" not in tiny.training.identity()  # older cells keep theirs


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (["--freeze-bn"], "--freeze-bn needs --init checkpoint:PATH"),
        (
            ["--grad-accum-steps=5"],
            "cannot be divided into --grad-accum-steps 5 equal parts",
        ),
        (["--grad-accum-steps=32"], "of two images or more"),
        (["--layer-decay=1.5"], "--layer-decay 1.5"),
        (["--clip-grad=-1"], "--clip-grad -1"),
        (
            ["--drop-path=0.1", "--model-arg=drop_path_rate=0.2"],
            "either --drop-path or --model-arg",
        ),
    ],
)
def test_a_mistake_ends_in_one_line(given: list[str], told: str, tmp_path, capsys) -> None:
    code, _, error = command(capsys, "run", "--batch-size=32", f"--out={tmp_path}", *given)
    assert code == 2 and told in error and error.count("\n") == 1


def test_nothing_to_freeze_or_to_drop_is_refused(tiny: RunConfig, tmp_path) -> None:
    args = {"drop_path_rate": 0.1}
    with pytest.raises(UsageError, match="takes no argument 'drop_path_rate'; see --drop-path"):
        build_model("vgg11", classes=10, channels=1, size=16, model_args=args, seed_value=0)
    model = build_model("test_vit", classes=10, channels=1, size=16, seed_value=0)
    path = tmp_path / "vit.safetensors"
    save_file(model.state_dict(), path)
    config = fine_tuning(tiny, path, model="test_vit", freeze_bn=True)
    with pytest.raises(UsageError, match="has no BatchNorm: leave --freeze-bn out"):
        TrainingSetup.of(config).check()
