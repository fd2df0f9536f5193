"""Matching units: what may be permuted, and whether the permutation is found again."""

from __future__ import annotations

import copy
import itertools

import numpy as np
import pytest
import torch
from torch import nn

from tests.support.permutable_networks import lived_in, shuffled_copy, timm_network, vgg
from wash_bench.merging.activation_matching import match_activations
from wash_bench.merging.permutation import permuted
from wash_bench.merging.unit_graph import permutation_groups
from wash_bench.merging.weight_matching import match_weights


class Block(nn.Module):
    """One ReLU module used twice, as torchvision's blocks do, and F.relu."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(6, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.conv2, self.bn2 = nn.Conv2d(8, 6, 3, padding=1), nn.BatchNorm2d(6)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        return nn.functional.relu(self.relu(x + y))


def flattened() -> nn.Module:
    """Feature maps flattened with their positions, as torchvision's VGG does."""
    torch.manual_seed(0)
    stem = nn.Sequential(nn.Conv2d(3, 6, 3, stride=4), nn.BatchNorm2d(6), nn.ReLU(), Block())
    head = nn.Sequential(nn.Flatten(), nn.Linear(6 * 64, 7), nn.BatchNorm1d(7), nn.ReLU())
    return nn.Sequential(*stem, *head, nn.Linear(7, 4))


NETWORKS = {
    "vgg": vgg,
    "resnet18": lambda: timm_network("resnet18", channels=[64, 8, 12, 16]),
    "resnet50": lambda: timm_network("resnet50", channels=[4, 4, 6, 8]),
    "test_resnet": lambda: timm_network("test_resnet", "keep"),
    "seresnet18": lambda: timm_network("seresnet18", channels=[16, 16, 16, 16]),
    "flattened": flattened,
}


@pytest.fixture(scope="module", params=NETWORKS)
def network(request, images) -> nn.Module:
    return lived_in(NETWORKS[request.param](), images)


def parameters(network: nn.Module) -> dict[str, torch.Tensor]:
    return {name: parameter.detach() for name, parameter in network.named_parameters()}


@torch.no_grad()
def test_permuting_leaves_the_function_and_moves_every_inner_axis(network, images):
    other = shuffled_copy(network)
    one, two = network(images), other(images)
    torch.testing.assert_close(two, one, rtol=1e-4, atol=1e-5)
    _, groups = permutation_groups(network)
    axes = {(axis.tensor, axis.axis) for group in groups for axis in group.axes}
    inner = {
        (name, axis)
        for name, tensor in network.state_dict().items()
        for axis in range(min(tensor.ndim, 2))
    }
    # All but the images' channels and the classes.
    outer = inner - axes
    assert sorted(axis for _, axis in outer) == [0, 0, 1]
    assert {network.state_dict()[name].shape[axis] for name, axis in outer} == {3, 4}


@torch.no_grad()
def test_hidden_head_of_timms_vgg_may_be_permuted(images):
    network = lived_in(vgg(head=True), images)
    other = shuffled_copy(network)
    assert not torch.equal(other.pre_logits.fc1.weight, network.pre_logits.fc1.weight)
    torch.testing.assert_close(other(images), network(images), rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("start", ["best", "identity", "forward"])
def test_weights_of_a_permuted_copy_are_matched_back(network, start):
    other = shuffled_copy(network)
    _, groups = permutation_groups(network)
    found = match_weights(
        groups, parameters(network), parameters(other), np.random.default_rng(0), start
    )
    back = permuted(dict(other.state_dict()), groups, found)
    assert len(back) > 5
    for name, tensor in back.items():
        assert torch.equal(tensor, network.state_dict()[name]), name


@pytest.mark.slow
@pytest.mark.parametrize("network", sorted(NETWORKS.keys() - {"seresnet18"}), indirect=True)
def test_activations_of_a_permuted_copy_are_matched_back(network, images):
    # Of squeeze-and-excitation's few units some are active for no image: nothing tells them apart.
    other = shuffled_copy(network)
    graph, groups = permutation_groups(network)
    batches = [(part, None) for part in images.split(10)]
    found = match_activations(graph, groups, network, other, batches)
    back = permuted(dict(other.state_dict()), groups, found)
    with torch.no_grad():
        restored = copy.deepcopy(other)
        restored.load_state_dict(dict(other.state_dict()) | back)
        torch.testing.assert_close(restored(images), network(images), rtol=1e-4, atol=1e-5)
    wrong = [n for n, t in back.items() if not torch.equal(t, network.state_dict()[n])]
    assert not wrong


def mlp(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Flatten(), nn.Linear(12, 5), nn.ReLU(), nn.Linear(5, 3))


def test_weight_matching_of_one_hidden_layer_is_the_best_of_all_permutations():
    one, two = mlp(0), mlp(1)
    _, groups = permutation_groups(one)
    (found,) = match_weights(groups, parameters(one), parameters(two), np.random.default_rng(0))
    (a, b, c, _), (d, e, f, _) = (
        [p.detach().numpy() for p in net.parameters()] for net in (one, two)
    )

    def height(order: list[int]) -> float:
        return sum(a[i] @ d[j] + b[i] * e[j] + c[:, i] @ f[:, j] for i, j in enumerate(order))

    best = max(itertools.permutations(range(5)), key=height)
    assert tuple(found.tolist()) == best != tuple(range(5))


@pytest.mark.parametrize("seed", range(0, 12, 2))
def test_activation_matching_of_one_hidden_layer_is_the_best_of_all_permutations(seed):
    one, two = mlp(seed), mlp(seed + 1)
    # Bright images: activations have means, which a correlation must not see.
    images = torch.randn(60, 3, 2, 2, generator=torch.Generator().manual_seed(2)) + 0.5
    graph, groups = permutation_groups(one)
    batches = [(part, None) for part in images.split(16)]
    (found,) = match_activations(graph, groups, one, two, batches)
    with torch.no_grad():
        x, y = (net[:3](images).double().numpy() for net in (one, two))
    with np.errstate(invalid="ignore"):  # a unit that never changes
        corr = np.nan_to_num(np.corrcoef(x.T, y.T)[:5, 5:])

    def height(order: tuple[int, ...]) -> float:
        return sum(corr[i, j] for i, j in enumerate(order))

    best = max(map(height, itertools.permutations(range(5))))
    assert height(tuple(found.tolist())) == pytest.approx(best, abs=1e-4)


def test_weight_matching_ends_no_lower_than_it_starts(images):
    one = lived_in(vgg(), images)
    two = lived_in(vgg(seed=1), images)
    _, groups = permutation_groups(one)

    def height(tensors) -> float:
        return sum((tensors[k] * v).sum().item() for k, v in parameters(one).items())

    ends = {}
    for start in ("identity", "forward", "best"):
        rng = np.random.default_rng(0)
        found = match_weights(groups, parameters(one), parameters(two), rng, start)
        ends[start] = height(parameters(two) | permuted(parameters(two), groups, found))
    assert ends["identity"] > height(parameters(two)) + 1
    assert ends["best"] >= max(ends["identity"], ends["forward"]) - 1e-3
