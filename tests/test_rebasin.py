"""Matching units: what may be permuted, and whether the permutation is found again."""

from __future__ import annotations

import copy
import itertools

import numpy as np
import pytest
import torch
from torch import nn

from tests.merging import judged
from wash_bench.core.population import ModelState
from wash_bench.errors import CellFailure
from wash_bench.evaluate.evaluator import Evaluator
from wash_bench.evaluate.population_judge import PopulationJudge
from wash_bench.merge.activation_matching import match_activations
from wash_bench.merge.permutation import permuted
from wash_bench.merge.unit_graph import permutation_groups
from wash_bench.merge.weight_matching import match_weights
from wash_bench.methods.activation_matching import ActivationMatching, ActivationMatchingOptions
from wash_bench.methods.fisher import Fisher, FisherOptions
from wash_bench.methods.regmean import RegMean, RegMeanOptions
from wash_bench.methods.weight_matching import WeightMatching, WeightMatchingOptions
from wash_bench.models.build import build_model
from wash_bench.runner.setting import Setting


def timm_network(name: str, stem: str = "cifar", **model_args) -> nn.Module:
    return build_model(
        name, classes=4, channels=3, size=32, stem=stem, model_args=model_args, seed_value=0
    )


def vgg(head: bool = False, seed: int = 0) -> nn.Module:
    """timm's VGG in small, with one linear layer behind the convolutions or its hidden head."""
    from timm.models.vgg import VGG

    torch.manual_seed(seed)
    config = [8, "M", 12, "M", 12, 16, "M", "M"]
    network = VGG(config, num_classes=4, norm_layer=nn.BatchNorm2d, mlp_ratio=0.002)
    if not head:
        network.pre_logits, network.head.fc = nn.Identity(), nn.Linear(16, 4)
    return network


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


def lived_in(network: nn.Module, images: torch.Tensor) -> nn.Module:
    """BatchNorm with parameters that differ and with the images' own statistics."""
    torch.manual_seed(3)
    layers = [m for m in network.modules() if isinstance(m, (nn.BatchNorm1d, nn.BatchNorm2d))]
    for layer in layers:
        layer.weight.data.uniform_(0.5, 1.5)
        layer.bias.data.normal_(0, 0.3)
        layer.momentum = 1.0
    network.train()
    with torch.no_grad():
        network(images)
    for layer in layers:
        layer.momentum = 0.1
    return network.eval()


def shuffled_copy(network: nn.Module, seed: int = 5) -> nn.Module:
    """The same function with its units in another order."""
    generator = torch.Generator().manual_seed(seed)
    _, groups = permutation_groups(network)
    orders = [torch.randperm(group.size, generator=generator) for group in groups]
    state = dict(network.state_dict())
    other = copy.deepcopy(network)
    other.load_state_dict(state | permuted(state, groups, orders))
    return other


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return torch.randn(24, 3, 32, 32, generator=torch.Generator().manual_seed(1))


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


RULES = {
    "weight-matching": WeightMatching(),
    "merge-many": WeightMatching(WeightMatchingOptions(reference="all")),
    "activation-matching": ActivationMatching(ActivationMatchingOptions(images=20)),
}


@pytest.mark.parametrize("rule", RULES)
def test_average_of_permuted_copies_is_the_network(rule, images):
    first = lived_in(vgg(), images)
    members = [first, shuffled_copy(first, 5), shuffled_copy(first, 6)]
    population, judge = judged(members, images)
    before = population.weights.clone(), population.buffers.clone()
    method = RULES[rule]
    predictors = method.predictors(population, judge)
    name = method.name
    assert list(predictors) == [name, f"{name}-raw", "average"]
    main, raw, average = (predictor.states[0] for predictor in predictors.values())
    expected = judge.logits(judge.members[0])
    torch.testing.assert_close(judge.logits(raw), expected, rtol=1e-4, atol=1e-5)
    assert (judge.logits(average) - expected).abs().max() > 0.1
    assert torch.equal(main.weights, raw.weights)
    assert torch.equal(main.buffers, judge.reestimated(raw).buffers)
    assert all(predictor.members == (0, 1, 2) for predictor in predictors.values())
    assert torch.equal(before[0], population.weights)
    assert torch.equal(before[1], population.buffers)


@pytest.mark.parametrize("rule", RULES)
def test_equal_members_and_a_single_one_stay_as_they_are(rule, images):
    first = lived_in(vgg(), images)
    scale = torch.tensor([1.0, 3.0, 0.7, 2.0, 1.3, 5.0])[:, None, None, None]
    first.features[0].weight.data[:6] = scale * first.features[0].weight.data[0].clone()
    lived_in(first, images)  # six units alike up to rounding: which is which is a tie
    for value, tensor in ((1, "weight"), (0, "bias")):
        getattr(first.features[1], tensor).data[:6] = value
    first.features[4].bias.data[[1, 4, 7]] = -100  # and three that are never active
    population, judge = judged([first] * 3, images)
    merged = RULES[rule].predictors(population, judge)[f"{RULES[rule].name}-raw"].states[0]
    torch.testing.assert_close(merged.weights, judge.members[0].weights, rtol=0, atol=1e-7)
    torch.testing.assert_close(merged.buffers, judge.members[0].buffers)
    population, judge = judged([first], images)
    merged = RULES[rule].predictors(population, judge)
    assert list(merged) == [RULES[rule].name, "average"]
    assert torch.equal(merged[RULES[rule].name].states[0].weights, judge.members[0].weights)


def test_activation_matching_passes_the_images_once_for_each_further_member(images):
    first = lived_in(vgg(), images)
    population, judge = judged([first, shuffled_copy(first), first], images)
    ActivationMatching().predictors(population, judge)
    assert judge.passes == 2


@pytest.mark.parametrize("rule", ["weight-matching", "activation-matching"])
def test_network_without_batchnorm_is_averaged_without_repair(rule, images):
    members = [nn.Sequential(nn.Flatten(), nn.Linear(12, 5), nn.ReLU(), nn.Linear(5, 3))] * 2
    population, judge = judged(members, images[:, :, :2, :2])
    assert list(RULES[rule].predictors(population, judge)) == [rule, "average"]


@pytest.mark.parametrize(
    ("build", "what"),
    [
        (lambda: timm_network("test_vit", "keep"), "has a graph that depends on its input"),
        (lambda: timm_network("test_convnext", "keep"), "contains"),
        (lambda: timm_network("test_efficientnet", "keep"), "contains"),
        (
            lambda: timm_network(
                "resnext50_32x4d", "keep", channels=[32, 32, 32, 32], layers=[1] * 4
            ),
            "has grouped convolutions ('layer1.0.conv2')",
        ),
    ],
)
def test_other_families_are_refused_in_one_line_that_names_those_that_work(build, what):
    network = build().eval()
    population, judge = judged([network] * 2, torch.zeros(2, 3, 32, 32))
    for rule in RULES.values():
        with pytest.raises(CellFailure) as failure:
            rule.predictors(population, judge)
        line = str(failure.value)
        assert "works for VGG and ResNet" in line and f"this network {what}" in line
        assert "\n" not in line and "another merge rule" in line


def test_repaired_average_regains_the_members_variance(images):
    """Averages of unlike networks have units that vary less; re-estimation rescales them."""
    members = [lived_in(vgg(seed=seed), images) for seed in range(2)]
    population, judge = judged(members, images)
    predictors = WeightMatching().predictors(population, judge)

    def variance(state: ModelState) -> float:
        with torch.no_grad():
            return judge.network(state).features(images).var(dim=(0, 2, 3)).mean().item()

    own = np.mean([variance(state) for state in judge.members])
    repaired, raw = (variance(predictor.states[0]) for predictor in list(predictors.values())[:2])
    assert raw < 0.7 * own
    assert repaired == pytest.approx(own, rel=0.3)


def test_rules_run_on_the_suites_own_judge(tiny):
    """Two members that were never trained: what is merged must predict, and nothing is touched."""
    setting = Setting.of(tiny.training.model_copy(update={"population": 2, "init": "independent"}))
    population = setting.population(0)
    evaluator = Evaluator(population, setting.data, "off", 0, setting.recipes(0))
    judge = PopulationJudge(evaluator, bn_images=32)
    before = population.weights.clone()
    for rule in (
        WeightMatching(),
        ActivationMatching(ActivationMatchingOptions(images=20)),
        Fisher(FisherOptions(images=8)),
        RegMean(RegMeanOptions(images=20)),
    ):
        predictors = rule.predictors(population, judge)
        assert next(iter(predictors)) == rule.name and len(predictors) == 3
        for predictor in predictors.values():
            (state,) = predictor.states
            assert np.isfinite(judge.validation_loss(state)), rule.name
        weights = predictors[rule.name].states[0].weights
        assert not torch.equal(weights, judge.average().states[0].weights), rule.name
    assert torch.equal(before, population.weights)
