"""Sparse soups against a restatement in plain loops."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.support.method_checks import FakeJudge, close, mean
from tests.support.method_trainings import training
from tests.support.populations import small_population
from wash_bench.core.exchange import LocalExchange
from wash_bench.core.method import CommShape
from wash_bench.core.step_info import Schedule
from wash_bench.errors import UsageError
from wash_bench.methods.sparse_soup import SparseSoup, SparseSoupOptions

SIX = Schedule("cosine", 0.1, 1e-4, steps=30, steps_per_epoch=5)  # six epochs


def naive_mask(row: list[float], old: list[bool], prunable: list[int], zeros: int) -> list[bool]:
    """Sort by magnitude, what is pruned already first, and cut off."""
    ranked = sorted(prunable, key=lambda i: (old[i], abs(row[i])))
    mask = list(old)
    for i in ranked[:zeros]:
        mask[i] = False
    return mask


def test_sparse_soup_prunes_retrains_averages_and_repeats():
    """Dense for two of six epochs, then two cycles of two epochs, up to 0.8."""
    population, exchange, n = small_population(3), LocalExchange(3, 0), 3
    method = SparseSoup(SparseSoupOptions(dense=0.34, cycles=2, sparsity=0.8))
    prunable = [i for part in ((0, 108), (116, 332), (350, 368)) for i in range(*part)]
    names = method.facts(CommShape(population.layout, n))["pruned_tensors"]
    assert names == ["0.weight", "2.weight", "6.weight"]
    mask = [True] * population.layout.size
    masks = []
    for clock, before in training(method, population, exchange, SIX):
        assert method.active(n, clock) == (1 if clock.epoch < 2 else n)
        rows = before["weights"].tolist()
        if clock.step == 9:  # the end of the dense parent
            rows = [rows[0]] * n
            assert torch.equal(population.counters, before["counters"][:1].expand(n, -1))
            assert torch.equal(population.buffers, before["buffers"][:1].expand(n, -1))
        if clock.step == 19:
            rows = [mean(before["weights"])] * n
            np.testing.assert_allclose(population.buffers, [mean(before["buffers"])] * n, **close)
        if clock.step in (9, 19):
            share = 1 - 0.2 ** (0.5 if clock.step == 9 else 1.0)
            mask = naive_mask(rows[0], mask, prunable, round(share * len(prunable)))
            masks.append(mask)
            assert (population.optimizer_state["momentum"] == 0).all()
            assert (population.optimizer_steps == 0).all()
        expected = [[x if keep else 0.0 for x, keep in zip(r, mask, strict=True)] for r in rows]
        np.testing.assert_allclose(population.weights, expected, **close)
        assert (population.optimizer_state["momentum"][:, ~torch.tensor(mask)] == 0).all()
    first, second = map(np.array, masks)
    assert (second <= first).all()  # what is pruned stays pruned
    assert round((~second).sum() / len(prunable), 2) == 0.8
    assert not torch.equal(population.weights[0], population.weights[1])
    assert [key for key in exchange.ledger.as_dict() if "weights" in key] == [
        "broadcast/weights",
        "mean/weights",
    ]
    kept = exchange.ledger.tallies["mean", "weights"].values / n
    assert kept == first.sum()  # an average sends what is not pruned
    delivered = method.predictors(population, FakeJudge(population))
    assert list(delivered) == ["soup", "average"]
    for name in delivered:
        assert (delivered[name].states[0].weights[~torch.tensor(second)] == 0).all()


@pytest.mark.parametrize(("epochs", "cycles"), [(2, 3), (3, 1), (9, 4), (20, 3)])
def test_sparse_soup_reaches_its_sparsity_whatever_the_epochs(epochs, cycles):
    plan = Schedule("cosine", 0.1, 1e-4, steps=3 * epochs, steps_per_epoch=3)
    population = small_population(2)
    method = SparseSoup(SparseSoupOptions(cycles=cycles, sparsity=0.9))
    for _ in training(method, population, LocalExchange(2, 0), plan):
        pass
    assert (~method.state_dict()["mask"]).sum() == round(0.9 * 342)


def test_sparse_soup_needs_an_epoch_to_retrain():
    with pytest.raises(UsageError, match="--epochs 2 or more"):
        SparseSoup().active(3, Schedule("cosine", 0.1, 1e-4, 5, 5).clock(0))
