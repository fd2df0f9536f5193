"""Fisher-weighted averaging against naive restatements."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.support.small_members import naive_fisher, networks, pictures, small
from wash_bench.core.population import ModelState
from wash_bench.merging import fisher as fisher_module
from wash_bench.merging.fisher import diagonal_fisher, fisher_average
from wash_bench.methods.fisher import Fisher, FisherOptions


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
