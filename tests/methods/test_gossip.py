"""Gossip against restatements in plain loops, and its variance correction."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.support.method_checks import close, mean
from tests.support.method_trainings import training
from tests.support.populations import PLAN, changed, small_population, tensors
from wash_bench.core.exchange import LocalExchange
from wash_bench.methods.gossip import Gossip, GossipOptions


@pytest.mark.parametrize("n", [2, 3, 5])
def test_gossip_on_a_ring(n):
    population = small_population(n)
    method = Gossip(GossipOptions(every=2))
    for clock, before in training(method, population, LocalExchange(n, 0)):
        if clock.step % 2 == 0 or clock.last:
            assert not changed(population, before)
            continue
        assert changed(population, before) == {"weights", "buffers"}
        for name in ("weights", "buffers"):
            rows = before[name].tolist()
            for member in range(n):
                around = {(member - 1) % n, member, (member + 1) % n}
                expected = mean(torch.tensor([rows[other] for other in sorted(around)]))
                np.testing.assert_allclose(tensors(population)[name][member], expected, **close)


@pytest.mark.parametrize("n", [2, 4, 5])
def test_gossip_in_random_pairs(n):
    population, seen = small_population(n), set()
    method = Gossip(GossipOptions(topology="pairs", every=1))
    for clock, before in training(method, population, LocalExchange(n, 0)):
        if clock.last:
            assert not changed(population, before)
            continue
        old, new = before["weights"], population.weights
        partners = []
        for member in range(n):
            errors = [(new[member] - (old[member] + row) / 2).abs().max() for row in old]
            partners.append(int(np.argmin(errors)))
            assert min(errors) < 1e-5
        pairs = frozenset((a, b) for a, b in enumerate(partners) if a < b)
        assert len(pairs) == n // 2 and all(partners[b] == a for a, b in enumerate(partners))
        seen.add(pairs)
        torch.testing.assert_close(new.mean(0), old.mean(0), **close)
    assert len(seen) == {2: 1, 4: 3, 5: 15}[n]  # every matching occurs


@pytest.mark.parametrize(("topology", "n"), [("ring", 5), ("pairs", 2)])
def test_the_variance_correction_restores_the_mean_of_the_variances(topology, n):
    population = small_population(n)
    population.weights[:, :40] = 0.25  # a part of the first convolution's, 40 of 108
    before = population.weights.double().numpy().copy()
    options = {"topology": topology, "every": 1}
    plain = small_population(n)
    plain.weights.copy_(population.weights)
    Gossip(GossipOptions(**options)).after_step(plain, LocalExchange(n, 0), PLAN.clock(0))
    method = Gossip(GossipOptions(**options, variance_correction=True))
    method.after_step(population, LocalExchange(n, 0), PLAN.clock(0))
    for piece in population.layout.slices:
        part = slice(piece.offset, piece.stop)
        for member in range(n):
            averaged = plain.weights[member, part].double().numpy()
            got = population.weights[member, part].numpy()
            if not piece.name.endswith("weight") or len(piece.shape) < 2:
                np.testing.assert_array_equal(got, plain.weights[member, part])
                continue
            inputs = [before[k, part] for k in {(member - 1) % n, member, (member + 1) % n}]
            target = np.mean([np.var(tensor) for tensor in inputs])
            centre = averaged.mean()
            expected = centre + (averaged - centre) * np.sqrt(target / averaged.var())
            np.testing.assert_allclose(got, expected, **close)
            assert averaged.var() < 0.8 * target  # the problem that it corrects
    assert torch.equal(population.buffers, plain.buffers)


def test_tensors_without_variance_are_left_alone():
    population = small_population(3)
    population.weights.fill_(0.5)
    method = Gossip(GossipOptions(every=1, variance_correction=True))
    method.after_step(population, LocalExchange(3, 0), PLAN.clock(0))
    assert (population.weights == 0.5).all()
