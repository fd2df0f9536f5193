"""RegMean against naive restatements."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from torch import nn

from tests.support.judges import judged
from tests.support.small_members import TwoLayers, networks, pictures, small
from wash_bench.core.population import ModelState
from wash_bench.merging import regmean as regmean_module
from wash_bench.methods.regmean import RegMean, RegMeanOptions


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
