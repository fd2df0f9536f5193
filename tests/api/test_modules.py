"""Merging modules in memory, and the barrier between two, with a loss of the user's."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import wash_bench as wb
from wash_bench.errors import UsageError
from wash_bench.plugins.registry import method_names

INPUTS = torch.randn(64, 4, generator=torch.Generator().manual_seed(0))
NEEDS_DATA = {"activation-matching", "bound-weights", "distill", "fisher", "learned-soup"}
NEEDS_DATA |= {"regmean"}


def networks(n: int = 3, norm: bool = False) -> list[nn.Module]:
    torch.manual_seed(0)
    layers = [nn.Linear(4, 8), nn.BatchNorm1d(8) if norm else nn.Tanh(), nn.Linear(8, 2)]
    start = nn.Sequential(*layers)
    found = [copy.deepcopy(start) for _ in range(n)]
    for net in found:
        for tensor in net.state_dict().values():
            if tensor.is_floating_point():
                tensor.add_(0.3 * torch.rand_like(tensor))
    return found


def loss(net: nn.Module) -> float:
    with torch.no_grad():
        return F.mse_loss(net(INPUTS), INPUTS[:, :2]).item()


def states(models: list[nn.Module]) -> list[dict[str, torch.Tensor]]:
    return [{name: tensor.clone() for name, tensor in m.state_dict().items()} for m in models]


def test_means_and_medians_against_plain_loops() -> None:
    models = networks(5)
    before = states(models)
    assert list(wb.merge(models)) == ["uniform-soup"]
    merged = wb.merge(models, methods=["uniform-soup", "median"])
    for name in before[0]:
        rows = torch.stack([state[name] for state in before])
        torch.testing.assert_close(merged["uniform-soup"].state_dict()[name], rows.mean(dim=0))
        torch.testing.assert_close(merged["median"].state_dict()[name], rows.median(dim=0).values)
    for state, model in zip(before, models, strict=True):  # as they were, and of their own
        assert all(torch.equal(state[k], v) for k, v in model.state_dict().items())
        assert all(parameter.requires_grad for parameter in model.parameters())


def test_a_greedy_soup_by_a_score_of_ones_own() -> None:
    models = networks(4)
    greedy = wb.merge(models, methods="greedy-soup", score=lambda net: -loss(net))["greedy-soup"]
    assert loss(greedy) <= min(map(loss, models))


def test_task_vectors_are_of_the_anchor() -> None:
    models, (anchor,) = networks(2), networks(1)
    given = {"task-arithmetic": {"scales": [0.5]}}
    merged = wb.merge(models, methods="task-arithmetic", anchor=anchor, set=given, score=loss)
    for name, base in anchor.state_dict().items():
        tasks = [model.state_dict()[name] - base for model in models]
        expected = [base + 0.5 * share * sum(tasks) for share in (1, 0.5)]  # their sum, or mean
        found = merged["task-arithmetic"].state_dict()[name]
        assert any(torch.allclose(found, each, atol=1e-6) for each in expected)


@pytest.mark.parametrize("name", method_names("merge"))
def test_each_rule_merges_or_says_in_one_line_what_it_needs(name: str) -> None:
    models, (anchor,) = networks(), networks(1)
    given = {"score": lambda net: -loss(net), "batches": [INPUTS], "anchor": anchor}
    if name in NEEDS_DATA:
        with pytest.raises(UsageError) as error:
            wb.merge(models, methods=name, **given)
        assert "\n" not in str(error.value)
    else:
        merged = wb.merge(models, methods=name, **given)
        assert torch.isfinite(torch.tensor(loss(merged[name])))


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"methods": "wash"}, "wash is a training method: use wash_bench.Coupling"),
        ({"methods": "soup"}, "unknown method 'soup'"),
        ({"methods": "greedy-soup"}, "needs score="),
        ({"methods": "task-arithmetic"}, "needs anchor="),
        ({"set": {"ties": {"density": 3}}, "methods": "ties"}, "density=3"),
    ],
)
def test_what_is_missing_is_one_line(change: dict, text: str) -> None:
    with pytest.raises(UsageError) as error:
        wb.merge(networks(), **change)
    assert text in str(error.value) and "\n" not in str(error.value)
    with pytest.raises(UsageError, match="network 1 has other parameters"):
        wb.merge([nn.Linear(2, 2), nn.Linear(3, 2)], methods="uniform-soup")


@pytest.mark.parametrize("norm", [False, True])
def test_the_barrier_against_a_plain_loop(norm: bool) -> None:
    one, other = networks(2, norm)
    found = wb.barrier(one, other, loss=loss, points=5, batches=[INPUTS])
    expected, again = [], []
    for alpha in (0, 0.25, 0.5, 0.75, 1):
        net = copy.deepcopy(one)
        mixed = {
            name: (1 - alpha) * tensor + alpha * other.state_dict()[name]
            if tensor.is_floating_point()
            else tensor
            for name, tensor in one.state_dict().items()
        }
        net.load_state_dict(mixed)
        expected.append(loss(net.eval()))
        torch.optim.swa_utils.update_bn([INPUTS], net)
        again.append(loss(net.eval()))

    def height(curve: list[float]) -> float:
        ends = [(1 - k / 4) * curve[0] + k / 4 * curve[-1] for k in range(5)]
        return max(value - end for value, end in zip(curve, ends, strict=True))

    averaged = found.points[found.points.bn == "averaged"]
    assert averaged.loss.tolist() == pytest.approx(expected, rel=1e-5)
    assert found.loss == pytest.approx(height(expected), abs=1e-5)
    if norm:
        assert found.loss_bn == pytest.approx(height(again), abs=1e-5)
    else:
        assert found.loss_bn is None
