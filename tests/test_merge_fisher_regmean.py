"""Fisher-weighted averaging and RegMean against naive restatements."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from tests.merging import SmallJudge, judged
from tests.populations import small_network
from wash_bench.core.population import ModelState, Population
from wash_bench.merge import fisher as fisher_module
from wash_bench.merge import regmean as regmean_module
from wash_bench.merge.fisher import diagonal_fisher, fisher_average
from wash_bench.methods.fisher import Fisher, FisherOptions
from wash_bench.methods.regmean import RegMean, RegMeanOptions


def networks(n: int, build=small_network, seed: int = 0) -> list[nn.Module]:
    """Trained-looking members: every parameter and statistic differs, variances are positive."""
    torch.manual_seed(seed)
    result = []
    for _ in range(n):
        network = build().eval()
        for layer in network.modules():
            if isinstance(layer, nn.BatchNorm2d):
                layer.weight.data.uniform_(0.5, 1.5)
                layer.bias.data.normal_()
                layer.running_mean.normal_()
                layer.running_var.uniform_(0.5, 1.5)
        result.append(network)
    return result


def pictures(n: int = 9, side: int = 8, seed: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(n, 3, side, side, generator=generator)
    return images, torch.randint(3, (n,), generator=generator)


def small(n: int) -> tuple[Population, SmallJudge]:
    return judged(networks(n), *pictures())


def naive_fisher(network, images, labels, kind) -> dict[str, np.ndarray]:
    """One image and one class at a time, by plain autograd."""
    names = [name for name, _ in network.named_parameters()]
    total = {name: 0.0 for name in names}
    for image, label in zip(images, labels, strict=True):
        log_probs = network(image[None])[0].log_softmax(0)
        for y in range(len(log_probs)) if kind == "model" else [int(label)]:
            weight = log_probs[y].exp().item() if kind == "model" else 1.0
            gradients = torch.autograd.grad(
                log_probs[y], list(network.parameters()), retain_graph=True
            )
            for name, gradient in zip(names, gradients, strict=True):
                total[name] = total[name] + weight * gradient.double().numpy() ** 2
    return {name: value / len(images) for name, value in total.items()}


@pytest.mark.parametrize("kind", ["model", "true"])
@pytest.mark.parametrize("memory", [1, 2**28])
def test_fisher_is_the_mean_of_single_images_squared_gradients(kind, memory, monkeypatch):
    monkeypatch.setattr(fisher_module, "MEMORY", memory)  # one image at a time, or all
    (network,) = networks(1)
    images, labels = pictures()
    batches = zip(images.split(4), labels.split(4), strict=True)
    got = diagonal_fisher(network, batches, kind)
    expected = naive_fisher(network, images, labels, kind)
    assert got.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(got[name], value, rtol=1e-4, atol=1e-8, err_msg=name)


def test_fisher_of_drawn_labels_tends_to_the_expectation_and_repeats_its_draws():
    (network,) = networks(1)
    images, labels = pictures(1)
    many = images.expand(4000, -1, -1, -1)

    def sample() -> torch.Tensor:
        generator = torch.Generator().manual_seed(0)
        batches = [(many, labels.expand(4000))]
        return torch.cat(
            [
                part.flatten()
                for part in diagonal_fisher(network, batches, "sample", generator).values()
            ]
        )

    exact = diagonal_fisher(network, [(images, labels)], "model")
    exact = torch.cat([part.flatten() for part in exact.values()])
    got = sample()
    assert torch.equal(got, sample())
    assert (got - exact).norm() < 0.1 * exact.norm()
    given_label = diagonal_fisher(network, [(images, labels)], "true")
    given_label = torch.cat([part.flatten() for part in given_label.values()])
    assert (given_label - exact).norm() > 0.2 * exact.norm()  # the bound above says something


def test_fisher_without_images_says_so():
    with pytest.raises(ValueError, match="at least one image"):
        diagonal_fisher(networks(1)[0], [])


@pytest.mark.parametrize("normalize", [False, True])
def test_fisher_merge_is_the_weighted_mean_of_every_tensor(normalize):
    population, judge = small(3)
    options = FisherOptions(floor=1e-3, normalize=normalize)
    merged = Fisher(options).predictors(population, judge)["fisher"].states[0]
    tensors = population.named_tensors(merged)
    members = [population.named_tensors(state) for state in judge.members]
    fishers = []
    for state in judge.members:
        fisher = naive_fisher(
            judge.network(state, gradients=True), judge.images, judge.labels, "model"
        )
        flat = np.concatenate([value.ravel() for value in fisher.values()])
        norm = np.sqrt((flat**2).sum()) if normalize else 1.0
        least = 1e-3 * flat.mean() / norm
        fishers.append({k: np.maximum(value / norm, least) for k, value in fisher.items()})
    assert list(fishers[0]) == [piece.name for piece in judge.layout.slices]
    for name in fishers[0]:
        top = sum(f[name] * m[name].double().numpy() for f, m in zip(fishers, members, strict=True))
        bottom = sum(f[name] for f in fishers)
        np.testing.assert_allclose(tensors[name], top / bottom, rtol=1e-3, atol=1e-5, err_msg=name)
    average = ModelState.mean(judge.members)
    assert torch.equal(merged.buffers, average.buffers)
    assert torch.equal(merged.counters, average.counters)
    assert not torch.allclose(merged.weights, average.weights, atol=1e-3)


def test_fisher_average_of_what_no_fisher_knows_is_the_mean():
    weights = [torch.tensor([1.0, 2.0, 7.0]), torch.tensor([3.0, 6.0, 7.0])]
    fishers = [torch.tensor([0.0, 1.0, 0.2]), torch.tensor([0.0, 3.0, 0.4])]
    got = fisher_average(weights, [f.double() for f in fishers], floor=0.0, normalize=False)
    assert got.tolist() == [2.0, 5.0, 7.0]
    blind = [torch.zeros(3, dtype=torch.float64), torch.ones(3, dtype=torch.float64)]
    assert torch.equal(fisher_average(weights, blind, floor=0.1, normalize=True), weights[1])


@given(st.integers(1, 5), st.booleans(), st.floats(0, 1), st.integers(0, 10**6))
def test_fisher_average_leaves_equal_members_and_stays_between_them(n, normalize, floor, seed):
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randn(n, 20, generator=generator)
    fishers = torch.rand(n, 20, generator=generator, dtype=torch.float64) ** 8
    got = fisher_average(list(rows), fishers.clone(), floor, normalize)
    assert (got <= rows.max(0).values + 1e-6).all() and (got >= rows.min(0).values - 1e-6).all()
    same = [rows[0]] * n
    assert torch.equal(fisher_average(same, fishers.clone(), floor, normalize), rows[0])


# RegMean ---------------------------------------------------------------------------------------


def unfolded(x: np.ndarray, layer: nn.Conv2d, group: int) -> np.ndarray:
    """The inputs of one group of a convolution, one output position a row, by plain loops."""
    (kh, kw), (sh, sw), (dh, dw) = layer.kernel_size, layer.stride, layer.dilation
    (ph, pw), channels = layer.padding, layer.in_channels // layer.groups
    x = np.pad(x, ((0, 0), (0, 0), (ph, ph), (pw, pw)))
    own = x[:, group * channels : (group + 1) * channels]
    rows = []
    for image in own:
        for i in range(0, x.shape[2] - dh * (kh - 1), sh):
            for j in range(0, x.shape[3] - dw * (kw - 1), sw):
                window = image[:, i : i + dh * kh : dh, j : j + dw * kw : dw]
                rows.append(window[:, :kh, :kw].ravel())
    return np.array(rows)


class TwoLayers(nn.Module):
    """A fixed-size first layer makes each member's second layer see inputs of its own."""

    def __init__(self, second: nn.Module) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 4, 1)
        self.second = second

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.first(x)
        return self.second(x.mean((2, 3)) if isinstance(self.second, nn.Linear) else x)


CONVOLUTIONS = {
    "plain": {"kernel_size": 2},
    "strided, padded": {"kernel_size": 3, "stride": 2, "padding": 1},
    "grouped": {"kernel_size": 2, "groups": 2, "padding": (1, 0)},
    "depthwise, dilated": {"kernel_size": (2, 1), "groups": 4, "dilation": 2},
}


@pytest.mark.parametrize("kind", CONVOLUTIONS)
def test_regmean_solves_the_least_squares_problem_of_a_convolution(kind, monkeypatch):
    monkeypatch.setattr(regmean_module, "UNFOLDED_BYTES", 2000)  # a few images at a time
    members = networks(3, lambda: TwoLayers(nn.Conv2d(4, 8, **CONVOLUTIONS[kind])))
    population, judge = judged(members, pictures(12, 6)[0])
    merged = RegMean(RegMeanOptions(off_diagonal=1.0)).predictors(population, judge)["regmean"]
    got = population.named_tensors(merged.states[0])["second.weight"].numpy()
    layer = members[0].second
    outputs = layer.out_channels // layer.groups
    for group in range(layer.groups):
        part = slice(group * outputs, (group + 1) * outputs)
        with torch.no_grad():
            inputs = [
                unfolded(m.first(judge.images).double().numpy(), layer, group) for m in members
            ]
        answers = [
            x @ m.second.weight[part].detach().double().numpy().reshape(outputs, -1).T
            for x, m in zip(inputs, members, strict=True)
        ]
        best, *_ = np.linalg.lstsq(np.concatenate(inputs), np.concatenate(answers), rcond=None)
        np.testing.assert_allclose(got[part].reshape(outputs, -1), best.T, rtol=1e-3, atol=1e-4)


def test_regmean_solves_the_least_squares_problem_of_a_linear_layer():
    members = networks(2, lambda: TwoLayers(nn.Linear(4, 5)))
    population, judge = judged(members, pictures(40, 4)[0])
    merged = RegMean(RegMeanOptions(off_diagonal=1.0, images=21)).predictors(population, judge)
    tensors = population.named_tensors(merged["regmean"].states[0])
    with torch.no_grad():
        inputs = [m.first(judge.images[:21]).mean((2, 3)).double().numpy() for m in members]
    weights = [m.second.weight.detach().double().numpy() for m in members]
    answers = [x @ w.T for x, w in zip(inputs, weights, strict=True)]
    best, *_ = np.linalg.lstsq(np.concatenate(inputs), np.concatenate(answers), rcond=None)
    np.testing.assert_allclose(tensors["second.weight"], best.T, rtol=1e-3, atol=1e-4)
    bias = (members[0].second.bias + members[1].second.bias).detach() / 2
    torch.testing.assert_close(tensors["second.bias"], bias)
    # The first layers see the same images: equal Gram matrices give the average.
    mean = (members[0].first.weight + members[1].first.weight).detach() / 2
    torch.testing.assert_close(tensors["first.weight"], mean)


@pytest.mark.parametrize("factor", [0.0, 0.3, 1.0])
def test_regmean_scales_what_is_off_the_diagonal(factor):
    members = networks(2, lambda: TwoLayers(nn.Linear(4, 2)))
    population, judge = judged(members, pictures(40, 4)[0])
    merged = RegMean(RegMeanOptions(off_diagonal=factor)).predictors(population, judge)["regmean"]
    got = population.named_tensors(merged.states[0])["second.weight"]
    left, right = np.zeros((4, 4)), np.zeros((4, 2))
    for m in members:
        with torch.no_grad():
            x = m.first(judge.images).mean((2, 3)).double().numpy()
        gram = x.T @ x
        for i, j in itertools.product(range(4), repeat=2):
            gram[i, j] *= 1 if i == j else factor
        left, right = left + gram, right + gram @ m.second.weight.detach().double().numpy().T
    np.testing.assert_allclose(got, np.linalg.solve(left, right).T, rtol=1e-3, atol=1e-4)


def test_regmean_averages_where_no_input_ever_is():
    def build() -> nn.Module:
        layers = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU(), nn.Conv2d(4, 2, 1))
        layers[0].bias.data[1] = -100.0  # never active in any member
        return layers

    members = networks(2, build)
    population, judge = judged(members, pictures()[0])
    merged = RegMean(RegMeanOptions(off_diagonal=1.0)).predictors(population, judge)["regmean"]
    got = population.named_tensors(merged.states[0])["2.weight"]
    mean = (members[0][2].weight + members[1][2].weight).detach() / 2
    torch.testing.assert_close(got[:, 1], mean[:, 1], rtol=1e-4, atol=1e-5)
    assert got.isfinite().all() and (got - mean)[:, [0, 2, 3]].abs().min() > 1e-4


def test_regmean_in_several_passes_is_the_same_and_wide_layers_are_averaged(monkeypatch):
    population, judge = small(3)
    whole = RegMean().predictors(population, judge)["regmean"].states[0]
    assert judge.passes == 3  # one for each member
    monkeypatch.setattr(regmean_module, "GRAM_BYTES", 1)
    parts = RegMean().predictors(population, judge)["regmean"].states[0]
    assert judge.passes == 3 + 3 * 3  # three layers apart
    assert torch.equal(whole.weights, parts.weights)
    narrow = (
        RegMean(RegMeanOptions(max_inputs=30)).predictors(population, judge)["regmean"].states[0]
    )
    mean, tensors = population.named_tensors(ModelState.mean(judge.members)), {}
    for name, state in {"whole": whole, "narrow": narrow}.items():
        tensors[name] = population.named_tensors(state)
    assert torch.equal(tensors["narrow"]["2.weight"], mean["2.weight"])  # 4 channels, 9 positions
    assert not torch.allclose(tensors["whole"]["2.weight"], mean["2.weight"], atol=1e-4)
    for name in ("1.weight", "1.bias", "2.bias", "3.running_var", "6.bias"):
        assert torch.equal(tensors["whole"][name], mean[name]), name


def test_regmean_averages_a_layer_that_has_no_solution(monkeypatch):
    monkeypatch.setattr(regmean_module, "RIDGES", ())
    population, judge = small(2)
    merged = RegMean().predictors(population, judge)["regmean"].states[0]
    assert torch.equal(merged.weights, ModelState.mean(judge.members).weights)


# Both ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", [Fisher, RegMean])
def test_equal_members_are_a_fixed_point_and_one_member_stays_itself(rule):
    for n in (1, 3):
        population, judge = judged(networks(1) * n, *pictures())
        merged = rule().predictors(population, judge)[rule.name].states[0]
        torch.testing.assert_close(merged.weights, judge.members[0].weights, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(merged.buffers, judge.members[0].buffers)


@pytest.mark.parametrize("rule", [Fisher, RegMean])
def test_predictors_are_the_merge_its_reestimated_form_and_the_average(rule):
    population, judge = small(2)
    before = population.weights.clone(), population.buffers.clone()
    predictors = rule().predictors(population, judge)
    assert list(predictors) == [rule.name, f"{rule.name}-reestimated", "average"]
    merged, fresh = (predictors[name].states[0] for name in list(predictors)[:2])
    assert torch.equal(merged.weights, fresh.weights)
    assert torch.equal(fresh.buffers, judge.reestimated(merged).buffers)
    assert not torch.equal(fresh.buffers, merged.buffers)
    assert all(predictor.members == (0, 1) for predictor in predictors.values())
    assert torch.equal(before[0], population.weights)
    assert torch.equal(before[1], population.buffers)
    bare, judge = judged(networks(2, lambda: TwoLayers(nn.Linear(4, 3))), *pictures())
    assert list(rule().predictors(bare, judge)) == [rule.name, "average"]


def test_fisher_takes_the_families_that_the_suite_trains():
    from wash_bench.models.build import build_model

    for name in ("test_vit", "test_convnext", "test_efficientnet"):
        network = build_model(name, classes=3, channels=3, size=32, stem="keep", seed_value=0)
        network.eval()
        images, labels = pictures(2, 32)
        got = diagonal_fisher(network, [(images, labels)], "true")
        expected = naive_fisher(network, images, labels, "true")
        for key, value in expected.items():
            np.testing.assert_allclose(got[key], value, rtol=2e-2, atol=1e-6, err_msg=key)
