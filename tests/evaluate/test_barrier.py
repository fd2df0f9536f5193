"""Barriers, BatchNorm re-estimation, averages and merges: values against plain restatements."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import nn

from wash_bench.config import EvaluationConfig, RunConfig
from wash_bench.core.population import ModelState, Population
from wash_bench.evaluate.barrier import barrier_points, barrier_summary
from wash_bench.evaluate.batchnorm import reestimate_
from wash_bench.evaluate.evaluator import Evaluator
from wash_bench.evaluate.population_context import PopulationJudge
from wash_bench.runner.training_setup import TrainingSetup


@pytest.fixture
def evaluator(tiny: RunConfig) -> Evaluator:
    """Three independent networks with different BatchNorm statistics."""
    config = tiny.training.model_copy(update={"init": "independent"})
    setting = TrainingSetup.of(config)
    population = setting.population(0)
    batch = next(setting.data.epoch_batches(0, 0, 0, 32, setting.data.recipe))
    with torch.no_grad():
        for _ in range(3):
            for module in population.modules:
                module.train()(batch.images)
    return Evaluator(population, setting.data, "off", 0, setting.recipes(0))


CONFIG = EvaluationConfig(barrier_points=5, barrier_images=60, barrier_bn_images=64)


@pytest.mark.slow
def test_equal_members_have_no_barrier(evaluator: Evaluator) -> None:
    member = evaluator.population.state(0)
    points = barrier_points(evaluator, [member, member.clone(), member.clone()], CONFIG)
    summary = barrier_summary(points)
    assert summary["barrier_loss_max"] == pytest.approx(0, abs=1e-6)
    assert summary["barrier_bn_loss_max"] == pytest.approx(0, abs=1e-6)
    assert summary["barrier_acc_max"] == pytest.approx(0, abs=1e-9)
    assert summary["barrier_nway_loss"] == pytest.approx(0, abs=1e-6)


@pytest.mark.slow
def test_barrier_against_networks_interpolated_by_hand(evaluator: Evaluator) -> None:
    population = evaluator.population
    points = barrier_points(evaluator, population.states(), CONFIG)
    images, labels = zip(*evaluator.data.eval_batches("test", 60), strict=True)
    images, labels = torch.cat(images), torch.cat(labels)

    def loss(alpha: float) -> float:
        first, second = (copy.deepcopy(population.modules[i]) for i in (0, 1))
        mixed = {
            name: (1 - alpha) * tensor.double() + alpha * second.state_dict()[name].double()
            for name, tensor in first.state_dict().items()
        }
        first.load_state_dict(mixed)
        first.eval()
        with torch.no_grad():
            return nn.functional.cross_entropy(first(images).double(), labels).item()

    curve = {p.alpha: p.loss for p in points if (p.a, p.b, p.bn) == ("0", "1", "averaged")}
    assert sorted(curve) == [0, 0.25, 0.5, 0.75, 1]
    by_hand = {alpha: loss(alpha) for alpha in curve}
    assert curve == pytest.approx(by_hand, rel=1e-4)

    pairs = {
        (p.a, p.b): [q.loss for q in points if (q.a, q.b, q.bn) == (p.a, p.b, "averaged")]
        for p in points
        if p.kind == "pair"
    }
    barriers = [
        max(np.array(losses) - np.linspace(losses[0], losses[-1], 5)) for losses in pairs.values()
    ]
    summary = barrier_summary(points)
    assert len(pairs) == 3
    assert summary["barrier_loss_max"] == pytest.approx(max(barriers))
    assert summary["barrier_loss_mean"] == pytest.approx(sum(barriers) / 3)
    assert min(barriers) >= 0
    ends = {
        p.a: p.loss for p in points if p.kind == "average" and p.alpha == 0 and p.bn == "averaged"
    }
    average = next(p.loss for p in points if p.kind == "average" and p.alpha == 1)
    assert summary["barrier_nway_loss"] == pytest.approx(average - sum(ends.values()) / 3)


def test_average_is_the_plain_mean_with_integer_buffers_kept_integer(evaluator: Evaluator) -> None:
    population = evaluator.population
    ours = population.named_tensors(ModelState.mean(population.states()))
    members = [module.state_dict() for module in population.modules]
    for name, tensor in ours.items():
        plain = torch.stack([member[name].double() for member in members]).mean(0)
        if tensor.is_floating_point():
            torch.testing.assert_close(tensor.double(), plain, rtol=1e-6, atol=1e-8)
        else:
            assert tensor.dtype == torch.int64
            assert torch.equal(tensor, members[0][name])  # all counted three batches
    fresh = evaluator.population.modules[0]
    copy.deepcopy(fresh).load_state_dict(ours, strict=True)


def test_reestimation_equals_the_mean_of_batch_statistics() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.Dropout(0.5))
    batches = [torch.randn(8, 1, 6, 6) * (i + 1) for i in range(4)]
    maps = [network[0](batch).detach() for batch in batches]
    mean = torch.stack([m.mean((0, 2, 3)) for m in maps]).mean(0)
    variance = torch.stack([m.var((0, 2, 3)) for m in maps]).mean(0)
    network[1].running_mean.fill_(99.0)
    reestimate_(network, batches)
    torch.testing.assert_close(network[1].running_mean, mean)
    torch.testing.assert_close(network[1].running_var, variance)
    assert network[1].momentum == 0.1
    assert not network.training


def test_reestimation_leaves_the_state_alone_and_repairs_bad_statistics(
    evaluator: Evaluator,
) -> None:
    state = evaluator.population.state(0)
    before = state.clone()
    fresh = evaluator.reestimated(state, 128)
    assert torch.equal(state.buffers, before.buffers)
    assert fresh.weights is state.weights
    spoiled = state.clone()
    spoiled.buffers.fill_(5.0)
    again = evaluator.reestimated(spoiled, 128)
    assert torch.equal(again.buffers, fresh.buffers)  # the same stream for everybody


def test_a_state_evaluates_as_its_network(evaluator: Evaluator) -> None:
    population = evaluator.population
    images, _ = zip(*evaluator.data.eval_batches("test", 50), strict=True)
    for member, module in enumerate(population.modules):
        ours = evaluator.compute(population.state(member), "test", 50)
        with torch.no_grad():
            plain = torch.log_softmax(module.eval()(torch.cat(images)).double(), 1)
        torch.testing.assert_close(ours, plain, rtol=1e-5, atol=1e-6)


def test_the_judges_greedy_soup_is_the_best_by_strict_improvement(evaluator: Evaluator) -> None:
    judge = PopulationJudge(evaluator)
    greedy = judge.greedy()
    accuracies = [judge.validation_accuracy(state) for state in judge.members]
    order = sorted(range(3), key=lambda n: -accuracies[n])
    chosen, best = [order[0]], accuracies[order[0]]
    for member in order[1:]:
        candidate = ModelState.mean([judge.members[m] for m in [*chosen, member]])
        accuracy = judge.validation_accuracy(candidate)
        if accuracy > best:
            chosen, best = [*chosen, member], accuracy
    assert list(greedy.members) == chosen
    assert judge.validation_accuracy(greedy.states[0]) == pytest.approx(best)


class _Tied(nn.Module):
    """Two names for one weight, and a module without BatchNorm."""

    def __init__(self) -> None:
        super().__init__()
        self.inward = nn.Linear(4, 4, bias=False)
        self.outward = nn.Linear(4, 4, bias=False)
        self.outward.weight = self.inward.weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.outward(self.inward(x).relu())


def test_tied_weights_are_one_slice_and_stay_tied() -> None:
    population = Population(lambda member: _Tied(), 2)
    assert population.layout.size == 16
    module = population.modules[1]
    assert module.inward.weight is module.outward.weight
    population.gradient_row(0).zero_()
    inputs = torch.randn(3, 4)
    module(inputs).sum().backward()
    plain = copy.deepcopy(_Tied())
    plain.inward.weight.data.copy_(module.inward.weight.data)
    plain(inputs).sum().backward()
    torch.testing.assert_close(population.gradient_row(0).view(4, 4), plain.inward.weight.grad)
    population.weights[1].zero_()
    assert module.outward.weight.abs().sum() == 0


def test_a_small_last_batch_counts_by_its_images() -> None:
    network = nn.Sequential(nn.BatchNorm1d(2))
    batches = [torch.randn(sizes, 2) + i for i, sizes in enumerate((8, 8, 2))]
    reestimate_(network, batches)
    mean = torch.cat(batches).mean(0)
    torch.testing.assert_close(network[0].running_mean, mean)
    variance = sum(len(batch) * batch.var(0) for batch in batches) / 18
    torch.testing.assert_close(network[0].running_var, variance)
    assert network[0].num_batches_tracked == 3


@pytest.mark.slow
def test_a_barrier_makes_its_batches_once(
    evaluator: Evaluator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Augmenting or decoding at each of a hundred points would cost more than the networks."""
    calls = []
    for name in ("eval_batches", "reestimation_batches"):
        make = getattr(evaluator.data, name)
        monkeypatch.setattr(
            evaluator.data, name, lambda *a, n=name, m=make: (calls.append(n), m(*a))[1]
        )
    members = evaluator.population.states()
    first = barrier_points(evaluator, members, CONFIG)
    assert sorted(calls) == ["eval_batches", "reestimation_batches"]
    monkeypatch.setattr("wash_bench.evaluate.evaluator.KEPT_BYTES", 0)  # too large to keep
    again = Evaluator(evaluator.population, evaluator.data, "off", 0, evaluator.recipes)
    assert barrier_points(again, members, CONFIG) == first
    assert len(calls) > 50


class _WithConstants(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(2)
        self.register_buffer("index", torch.arange(6), persistent=False)
        self.register_buffer("mask", torch.full((4,), -torch.inf), persistent=False)


def test_buffers_that_are_not_saved_are_no_state() -> None:
    """Position indices and masks are constants: not averaged, not sent, not exported."""
    population = Population(lambda member: _WithConstants(), 2)
    assert [piece.name for piece in population.layout.buffers] == [
        "norm.running_mean",
        "norm.running_var",
    ]
    assert population.layout.counter_size == 1
    exported = population.named_tensors(population.state(1))
    _WithConstants().load_state_dict(exported, strict=True)
    assert torch.equal(population.modules[1].mask, torch.full((4,), -torch.inf))
