"""Engines compute what eager steps compute, and batches made together are those made in turn."""

from __future__ import annotations

import pytest
import torch

from tests.support.populations import small_population
from tests.support.runs import SET
from tests.support.training_loop import loop_of
from wash_bench.config import RunConfig, TrainingConfig
from wash_bench.core.population import ROW_ALIGNMENT, ModelState
from wash_bench.data.load import load_data
from wash_bench.data.recipe import Recipe
from wash_bench.data.source import Batch
from wash_bench.errors import CellFailure, UsageError
from wash_bench.evaluate.evaluator import Evaluator
from wash_bench.plugins.registry import find_method, make_method
from wash_bench.runner.training_setup import TrainingSetup
from wash_bench.train.engines import engine_name, make_engine
from wash_bench.train.loss import CompiledLoss, EagerLoss

# Smooth activations: at a ReLU's kink one rounding is a gradient of another norm, by 0.5 %.
SMOOTH = {"model": "test_resnet", "model_args": {"act_layer": "silu"}}
ORIGINAL_COMPILE = torch.compile
DRAWING = {"model": "test_vit", "model_args": {"drop_rate": 0.3}}
"""A network that draws random numbers in its forward pass."""


@pytest.fixture
def quick_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    """Dynamo and AOTAutograd without Inductor, whose C++ takes minutes for a whole network."""

    def compile_without_inductor(function, *, dynamic: bool, options: dict):
        return ORIGINAL_COMPILE(function, backend="aot_eager", dynamic=dynamic)

    monkeypatch.setattr(torch, "compile", compile_without_inductor)


@pytest.mark.slow
@pytest.mark.usefixtures("quick_compiler")
@pytest.mark.parametrize(
    ("method", "network"), [("wash-opt", SMOOTH), ("papa", DRAWING)], ids=["batchnorm", "vit"]
)
def test_the_compiled_loss_trains_as_the_eager_one(tiny: RunConfig, method: str, network: dict):
    # 140 images in batches of 32: the last batch is short, and left to the eager loss.
    config = tiny.training.model_copy(update=network | {"population": 2, "train_limit": 140})
    losses, weights, buffers = [], [], []
    for compiled in (False, True):
        rule = make_method(find_method(method), SET[method])
        loop = loop_of(config.model_copy(update={"compile": compiled}), rule)
        assert isinstance(loop.engine.loss, CompiledLoss) == compiled
        losses.append(loop.epoch(0, lambda pulse: None))
        weights.append(loop.population.weights)
        buffers.append(loop.population.buffers)
    torch.testing.assert_close(losses[0], losses[1], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(weights[0], weights[1], rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(buffers[0], buffers[1], rtol=1e-3, atol=1e-4)


@pytest.mark.slow
def test_inductor_gives_the_losses_and_gradients_of_eager_steps() -> None:
    population = small_population(2)
    eager, compiled = EagerLoss(population, "off"), CompiledLoss(population, "off", 8)
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(8, 3, 12, 12, generator=generator)
    batch = Batch(images, torch.randint(3, (8,), generator=generator))
    found = []
    for loss in (eager, compiled):
        population.buffers.fill_(1.0)
        for row in range(2):
            population.gradient_row(row).zero_()
            value = loss(row, batch)
            value.backward()
            gradient = population.gradient_row(row).clone()
            found.append((value.detach(), gradient, population.buffers[row].clone()))
    for ours, theirs in zip(found[2:], found[:2], strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@pytest.mark.usefixtures("quick_compiler")
def test_one_compilation_serves_all_members(tiny: RunConfig) -> None:
    import torch._dynamo as dynamo

    config = tiny.training.model_copy(update={"population": 3, "train_limit": 64, "compile": True})
    dynamo.reset()
    dynamo.utils.counters.clear()
    loop_of(config).epoch(0, lambda pulse: None)
    assert dynamo.utils.counters["stats"]["unique_graphs"] == 1


def test_what_does_not_compile_fails_with_the_option_to_leave_out(
    tiny: RunConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    from torch._dynamo.exc import Unsupported

    def refuse(*_) -> None:
        raise Unsupported("data-dependent branching")

    monkeypatch.setattr(torch, "compile", lambda function, **_: refuse)
    loop = loop_of(tiny.training.model_copy(update={"compile": True}))
    with pytest.raises(CellFailure, match=r"data-dependent branching.*leave --compile out"):
        loop.epoch(0, lambda pulse: None)


def test_graphs_need_a_cuda_device(tiny: RunConfig) -> None:
    config = tiny.training.model_copy(update={"engine": "graph"})
    with pytest.raises(UsageError, match="--engine graph needs a CUDA device, not cpu"):
        TrainingSetup.of(config).check()
    assert engine_name(tiny.training, torch.device("cpu")) == "eager"
    assert engine_name(config, torch.device("cuda:1")) == "graph"
    assert engine_name(tiny.training, torch.device("cuda")) == "eager"


def test_gradient_rows_of_their_own_change_nothing(tiny: RunConfig) -> None:
    """What graphs side by side need, on a CPU."""
    weights = []
    for own in (False, True):
        loop = loop_of(tiny.training.model_copy(update={"population": 2, "train_limit": 96}))
        if own:
            gradients = torch.zeros_like(loop.population.weights)
            loop.population.gradients = gradients
            loop.engine = make_engine(loop.population, loop.config, 0)
            # The parameters' gradients are views into the rows from the start on.
            for row, module in enumerate(loop.population.modules):
                named = dict(module.named_parameters())
                for piece in loop.population.layout.slices:
                    row_piece = gradients[row, piece.offset : piece.offset + piece.size]
                    like = named[piece.name].grad
                    named[piece.name].grad = row_piece.as_strided(like.shape, like.stride())
        loop.epoch(0, lambda pulse: None)
        weights.append(loop.population.weights)
    assert torch.equal(*weights)


@pytest.mark.parametrize(
    "recipe",
    [
        Recipe(),
        Recipe(crop_padding=1, flip=True),
        Recipe(crop_padding=1, flip=True, cutout=2, random_erasing=0.5),
        Recipe(flip=True, mixup=0.5, cutmix=0.5, label_smoothing=0.1),
        Recipe(crop_padding=1, auto_augment=True),
    ],
    ids=["none", "crop", "boxes", "mixed", "policy"],
)
@pytest.mark.parametrize("at_once", [1, 3 * 32 * 64, 2**24])
def test_batches_made_together_are_those_made_in_turn(recipe: Recipe, at_once: int) -> None:
    def batches(values: int) -> list[torch.Tensor]:
        config = TrainingConfig(dataset="digits", train_limit=300)
        data = load_data(config, torch.device("cpu"))
        data.values_at_once = values  # as on a GPU
        found = list(data.epoch_batches(1, 2, 3, 32, recipe))
        return [tensor for batch in found for tensor in batch]

    together, in_turn = batches(at_once), batches(0)
    assert len(together) == 2 * 10 and len(together[-2]) == 300 % 32
    for ours, theirs in zip(together, in_turn, strict=True):
        assert ours.dtype == theirs.dtype and torch.equal(ours, theirs)
        assert ours.stride() == theirs.stride()


def test_rows_begin_where_vectorized_kernels_want_them(tiny: RunConfig) -> None:
    population = TrainingSetup.of(tiny.training).population(0)
    rows = [population.weights, population.gradients, *population.optimizer_state.values()]
    for matrix in rows:
        assert matrix.shape[1] == population.layout.size
        assert matrix.stride(0) % ROW_ALIGNMENT == 0 and matrix.data_ptr() % 64 == 0
        assert all(row.is_contiguous() for row in matrix)


def test_stacked_states_are_measured_where_vectorized_kernels_want_them(tiny: RunConfig) -> None:
    setting = TrainingSetup.of(tiny.training)
    population = setting.population(0)
    evaluator = Evaluator(population, setting.data, "off", 0, setting.recipes(0))
    stacked = ModelState(
        population.weights.contiguous()[1],
        population.buffers.contiguous()[1],
        population.counters[1],
    )
    assert stacked.weights.storage_offset() % ROW_ALIGNMENT
    found = evaluator.compute(stacked, "val")
    for tensor in (*evaluator.shell.parameters(), *evaluator.shell.buffers()):
        assert tensor.data_ptr() % 16 == 0 or tensor.dtype == torch.int64
    assert torch.equal(found, evaluator.compute(population.state(1), "val"))
    rows = evaluator.reestimated(population.state(1), 64)
    assert torch.equal(evaluator.reestimated(stacked, 64).buffers, rows.buffers)
    assert population.state(1).aligned().weights.data_ptr() == population.weights[1].data_ptr()


@pytest.mark.parametrize("fault", ["gradient", "buffers", "loss"])
def test_a_compiler_that_computes_something_else_fails_and_leaves_no_trace(
    tiny: RunConfig, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    def compile_wrongly(function, **_):
        def wrong(tensors, images, targets):
            if fault == "buffers":  # as an average over too large a window, before a BatchNorm
                return function(tensors, images / 4, targets)
            loss = function(tensors, images, targets)
            return loss + (1.0 if fault == "loss" else 0.5 * loss - 0.5 * loss.detach())

        return wrong

    monkeypatch.setattr(torch, "compile", compile_wrongly)
    loop = loop_of(tiny.training.model_copy(update={"compile": True}))
    population = loop.population
    before = [population.buffers.clone(), population.counters.clone(), torch.get_rng_state()]
    batch = next(loop.data.epoch_batches(0, 0, 0, tiny.training.batch_size, loop.recipes[0]))
    with pytest.raises(CellFailure, match=r"something else than the network.*leave --compile out"):
        loop.engine.loss(0, batch)
    after = [population.buffers, population.counters, torch.get_rng_state()]
    assert all(torch.equal(*pair) for pair in zip(before, after, strict=True))
