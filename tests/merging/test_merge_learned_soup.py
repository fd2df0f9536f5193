"""The learned soup: its start, its steps, its passes over the validation split."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from tests.support.random_members import FakeJudge, members, merged, values
from wash_bench.methods import learned_soup
from wash_bench.methods.learned_soup import LearnedSoup, LearnedSoupOptions


@pytest.mark.parametrize("per", ["model", "layer"])
def test_the_learned_soup_starts_uniform_and_lowers_the_loss_that_it_optimizes(per):
    population = members(3, spread=1.0)
    judge = FakeJudge(population)
    uniform = judge.average().states[0]
    start = merged(LearnedSoup(LearnedSoupOptions(per=per, epochs=0)), population)
    torch.testing.assert_close(values(start), values(uniform))
    options = LearnedSoupOptions(per=per, epochs=30, batch_size=20)
    learned = merged(LearnedSoup(options), population)
    assert judge.validation_loss(learned) < judge.validation_loss(uniform)
    again = merged(LearnedSoup(options), population)
    assert torch.equal(learned.weights, again.weights)


def test_one_step_of_the_learned_soup_follows_the_numerical_gradient():
    """AdamW's first step has the size lr and the sign of the gradient, in each coefficient."""
    population = members(3, spread=1.0)
    judge = FakeJudge(population)
    lr = 1e-3
    rule = LearnedSoup(LearnedSoupOptions(per="layer", epochs=1, batch_size=40, lr=lr))
    got = merged(rule, population)
    layout = population.layout
    seen = set()
    for pieces, name in ((layout.slices, "weights"), (layout.buffers, "buffers")):
        rows = getattr(population, name).double()
        for piece in pieces:
            part = slice(piece.offset, piece.stop)

            def loss(raw: torch.Tensor, name=name, part=part, rows=rows) -> float:
                state = judge.average().states[0]
                getattr(state, name)[part] = (raw.softmax(0) @ rows[:, part]).float()
                network = judge.network(state).double()
                with torch.no_grad():
                    return cross_entropy(network(judge.images.double()), judge.labels).item()

            slopes = []
            for member in range(3):
                step = torch.zeros(3, dtype=torch.float64)
                step[member] = 1e-2
                slopes.append(loss(step) - loss(-step))
            if min(map(abs, slopes)) < 2e-5:  # too flat for float32 differences
                continue
            seen.add(piece.name)
            raw = torch.tensor([-lr * math.copysign(1, slope) for slope in slopes])
            expected = raw.double().softmax(0) @ rows[:, part]
            actual = getattr(got, name)[part]
            np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=2e-6, err_msg=piece.name)
    assert len(seen) >= 8 and any("running_var" in name for name in seen)


def test_the_learned_soup_streams_a_large_validation_split(monkeypatch):
    population = members(3, spread=1.0)
    monkeypatch.setattr(learned_soup, "KEPT_BYTES", 1000)
    judge = FakeJudge(population)
    learned = merged(LearnedSoup(LearnedSoupOptions(epochs=20, batch_size=20)), population)
    assert judge.validation_loss(learned) < judge.validation_loss(judge.average().states[0])


def test_folding_batchnorm_changes_nothing():
    population = members(1)
    judge = FakeJudge(population)
    network = judge.network(population.state(0))
    tensors = {**dict(network.named_parameters()), **dict(network.named_buffers())}
    folded = learned_soup.fold(network, tensors)
    assert folded["1.running_mean"].eq(0).all() and not tensors["1.running_mean"].eq(0).all()
    with torch.no_grad():
        got = torch.func.functional_call(network, folded, (judge.images,))
        torch.testing.assert_close(got, network(judge.images))
    plain = {"running_mean": torch.zeros(2).requires_grad_(), "running_var": torch.ones(2)}
    assert not learned_soup.fold(nn.BatchNorm2d(2, affine=False), plain)[
        "running_mean"
    ].requires_grad
