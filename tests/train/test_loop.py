"""The shared loop against plain PyTorch, member by member."""

from __future__ import annotations

import copy

import pytest
import torch
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from tests.support.populations import small_population
from tests.support.training_loop import loop_of
from wash_bench.config import RunConfig
from wash_bench.core.step_info import Schedule
from wash_bench.errors import CellFailure
from wash_bench.methods.naive_ensemble import NaiveEnsemble
from wash_bench.methods.papa import Papa
from wash_bench.runner.training_setup import TrainingSetup
from wash_bench.train.engine import seed_device


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
@pytest.mark.parametrize("model", ["test_resnet", "test_vit"])
def test_members_train_as_networks_of_their_own(tiny: RunConfig, optimizer: str, model: str):
    """Row optimizers and shared gradient row: the same weights as per-tensor training."""
    lr = 0.05 if optimizer == "sgd" else 1e-3
    config = tiny.training.model_copy(
        update={"optimizer": optimizer, "model": model, "lr": lr, "init": "independent"}
    )
    loop = loop_of(config)
    networks = [copy.deepcopy(module) for module in loop.population.modules]
    loop.epoch(0, lambda pulse: None)

    schedule = loop.schedule
    for member, network in enumerate(networks):
        network.train()
        for parameter in network.parameters():
            parameter.grad = None
        if optimizer == "sgd":
            plain = torch.optim.SGD(
                network.parameters(), lr=lr, momentum=config.momentum, weight_decay=1e-4, fused=True
            )
        else:
            plain = torch.optim.AdamW(network.parameters(), lr=lr, weight_decay=1e-4, fused=True)
        batches = loop.data.epoch_batches(0, member, 0, config.batch_size, loop.recipes[member])
        for step, batch in enumerate(batches):
            plain.param_groups[0]["lr"] = schedule.at(step)
            plain.zero_grad()
            F.cross_entropy(network(batch.images), batch.targets).backward()
            plain.step()
        ours = loop.population.named_tensors(loop.population.state(member))
        for name, tensor in network.state_dict().items():
            torch.testing.assert_close(ours[name], tensor, rtol=1e-5, atol=1e-6, msg=name)


@pytest.mark.slow
def test_a_member_does_not_depend_on_method_or_population_size(tiny: RunConfig) -> None:
    """Data, order, augmentation and init of member 1 are the same under N = 2 and N = 3."""
    small = tiny.training.model_copy(update={"population": 2, "init": "independent"})
    large = tiny.training.model_copy(update={"population": 3, "init": "independent"})
    first, second = loop_of(small), loop_of(large)
    third = loop_of(large, Papa(Papa.Options(alpha=1.0)))  # a pull of strength 0
    for loop in (first, second, third):
        loop.epoch(0, lambda pulse: None)
    assert torch.equal(first.population.weights, second.population.weights[:2])
    torch.testing.assert_close(second.population.weights, third.population.weights)


def test_shared_init_gives_equal_members_and_independent_init_does_not(tiny: RunConfig) -> None:
    shared = TrainingSetup.of(tiny.training).population(0)
    assert torch.equal(shared.weights[0], shared.weights[2])
    other = tiny.training.model_copy(update={"init": "independent"})
    assert not torch.equal(*TrainingSetup.of(other).population(0).weights[:2])


def test_a_loss_that_is_not_finite_names_the_member(tiny: RunConfig) -> None:
    loop = loop_of(tiny.training)
    with torch.no_grad():
        loop.population.weights[1].fill_(float("nan"))
    with pytest.raises(CellFailure, match=r"loss of member 1 is not finite at step 0 \(epoch 1\)"):
        loop.epoch(0, lambda pulse: None)


@pytest.mark.slow
def test_bf16_autocast_trains_and_keeps_float32_weights(tiny: RunConfig) -> None:
    # On 16 pixels the last 3x3 convolution of stride 2 sees 1x1 maps, for which torch's CPU kernel
    # leaves parts of the bfloat16 weight gradient unset.
    update = {"amp": "bf16", "image_size": 32, "train_limit": 160, "population": 2}
    loop = loop_of(tiny.training.model_copy(update=update))
    first = loop.epoch(0, lambda pulse: None)
    second = loop.epoch(1, lambda pulse: None)
    assert loop.population.weights.dtype == torch.float32
    assert (second < first).all()


@pytest.mark.slow
def test_fp16_scales_the_loss_of_each_member_on_its_own(tiny: RunConfig) -> None:
    loop = loop_of(tiny.training.model_copy(update={"amp": "fp16"}))
    assert len({id(scaler) for scaler in loop.engine.scalers}) == loop.population.n
    losses = loop.epoch(0, lambda pulse: None)
    assert torch.isfinite(losses).all()
    assert torch.isfinite(loop.population.weights).all()


@pytest.mark.parametrize(
    ("kind", "step", "rate"),
    [
        ("cosine", 0, 0.1),
        ("cosine", 500, (0.1 + 1e-4) / 2),
        ("cosine", 1000, 1e-4),
        ("constant", 700, 0.1),
        ("multistep", 499, 0.1),
        ("multistep", 500, 0.01),
        ("multistep", 750, 0.001),
    ],
)
def test_learning_rate_by_step(kind: str, step: int, rate: float) -> None:
    schedule = Schedule(kind, 0.1, 1e-4, steps=1000, steps_per_epoch=100)
    assert schedule.at(step) == pytest.approx(rate)


def test_cosine_equals_torchs_scheduler() -> None:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 40, eta_min=1e-4)
    schedule = Schedule("cosine", 0.1, 1e-4, steps=40, steps_per_epoch=10)
    for clock in schedule.clocks():
        assert clock.lr == pytest.approx(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
        assert clock.next_lr == pytest.approx(optimizer.param_groups[0]["lr"])


def test_clock_knows_epoch_ends() -> None:
    schedule = Schedule("constant", 0.1, 0.0, steps=25, steps_per_epoch=10)
    ends = [clock.step for clock in schedule.clocks() if clock.epoch_end]
    assert ends == [9, 19, 24]
    assert [schedule.clock(step).epoch for step in (0, 9, 10, 24)] == [0, 0, 1, 2]


def test_dropout_draws_the_streams_of_manual_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(123)
    expected = torch.rand(7)
    # It would visit every accelerator's back end, at each step of each member.
    monkeypatch.setattr(torch, "manual_seed", lambda seed: pytest.fail("slow"))
    seed_device(torch.device("cpu"), 123)
    assert torch.equal(torch.rand(7), expected)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_dropout_on_a_gpu_draws_the_streams_of_manual_seed() -> None:
    torch.manual_seed(123)
    expected = torch.rand(7, device="cuda")
    seed_device(torch.device("cuda"), 123)
    assert torch.equal(torch.rand(7, device="cuda"), expected)


class _Spoiler(NaiveEnsemble):
    def after_step(self, population, exchange, clock) -> None:
        if clock.epoch_end:
            population.weights[2, 5] = float("inf")


def test_weights_that_are_not_finite_after_the_last_step_fail(tiny: RunConfig) -> None:
    """No loss of a later step would tell."""
    with pytest.raises(CellFailure, match="weights of member 2 are not finite at the end of epo"):
        loop_of(tiny.training, _Spoiler()).epoch(0, lambda pulse: None)


class _LargestOutput(TorchDispatchMode):
    """Notes the size of the largest new tensor (views share the storage of what they view)."""

    def __init__(self) -> None:
        super().__init__()
        self.numel = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        if isinstance(result, torch.Tensor) and not result._is_view():
            self.numel = max(self.numel, result.numel())
        return result


def test_distance_to_consensus_by_hand_and_in_the_memory_of_one_member() -> None:
    population = small_population(5)
    with _LargestOutput() as largest:
        measured = population.consensus()
    assert largest.numel <= population.layout.size

    rows = population.weights.double()
    mean = rows.mean(0)
    assert measured.pop("distance") == pytest.approx((rows - mean).norm(dim=1).mean().item())
    relative = (rows - mean).norm(dim=1).mean() / mean.norm()
    assert measured.pop("relative") == pytest.approx(relative.item())
    for piece in population.layout.slices:
        part = (rows - mean)[:, piece.offset : piece.stop]
        expected = part.norm(dim=1).mean().item()
        assert measured.pop(f"layer/{piece.name}") == pytest.approx(expected)
    assert not measured
