"""Streaming DiLoCo and PALSGD against plain loops, and where they are DiLoCo."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from tests.support.identities import make, same, same_bits, train
from tests.support.method_trainings import training
from tests.support.populations import PLAN, changed, small_population
from wash_bench.core.exchange import LocalExchange
from wash_bench.methods.diloco import Diloco
from wash_bench.methods.palsgd import Palsgd
from wash_bench.methods.streaming_diloco import StreamingDiloco, StreamingDilocoOptions

# Streaming DiLoCo -------------------------------------------------------------------------------

# The small network's layers: convolution 108, norm 8, convolution 222, norm 12, classifier 21.
LAYERS = [(0, 108), (108, 116), (116, 338), (338, 350), (350, 371)]
NORMS = {1: (0, 8), 3: (8, 20)}


@pytest.mark.parametrize("pattern", ["strided", "sequential"])
@pytest.mark.parametrize(
    ("parts", "tau", "alpha"), [(2, 0, 0.0), (2, 3, 0.5), (3, 1, 0.25), (9, 5, 0)]
)
def test_streaming_diloco_takes_outer_steps_of_fragments_late(parts, tau, alpha, pattern):
    n, every, lr, mu = 3, 6, 0.4, 0.9
    population, exchange = small_population(n), LocalExchange(n, 0)
    method = make(
        StreamingDiloco, fragments=parts, tau=tau, alpha=alpha, every=every, pattern=pattern
    )
    phi = population.weights[0].double().numpy().copy()
    v, flying, sent = np.zeros_like(phi), [], 0
    for clock, before in training(method, population, exchange):
        t = clock.step + 1
        theta, stats = (before[name].double().numpy().copy() for name in ("weights", "buffers"))
        for p in range(parts):
            layers = [
                layer
                for layer in range(5)
                if (layer % parts if pattern == "strided" else layer * parts // 5) == p
            ]
            if (t - p * every // parts) % every == 0 and t + tau < 40:
                taken = {layer: theta[:, slice(*LAYERS[layer])].mean(axis=0) for layer in layers}
                norms = {x: stats[:, slice(*NORMS[x])].mean(axis=0) for x in layers if x in NORMS}
                flying.append((t + tau, taken, norms))
                sent += n * sum(map(len, taken.values()))
        for arrival, taken, norms in flying:
            if arrival == t:
                for layer, mean in taken.items():
                    part = slice(*LAYERS[layer])
                    delta = phi[part] - mean
                    v[part] = mu * v[part] + delta
                    phi[part] = phi[part] - lr * (delta + mu * v[part])
                    theta[:, part] = alpha * theta[:, part] + (1 - alpha) * phi[part]
                for layer, mean in norms.items():
                    part = slice(*NORMS[layer])
                    stats[:, part] = alpha * stats[:, part] + (1 - alpha) * mean
        np.testing.assert_allclose(population.weights, theta, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(population.buffers, stats, rtol=1e-4, atol=1e-5)
    assert exchange.ledger.tallies["mean", "weights"].values == sent > 0
    assert set(method.state_dict()) == {"global", "momentum"}  # nothing is left under way
    np.testing.assert_allclose(method.state_dict()["global"], phi, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("nesterov", [True, False])
def test_one_fragment_without_delay_is_diloco(nesterov):
    one = make(StreamingDiloco, fragments=1, tau=0, alpha=0.0, every=6, nesterov=nesterov)
    two = make(Diloco, every=6, outer_lr=0.4, nesterov=nesterov)
    assert same_bits(train(one, 3), train(two, 3))
    for name, tensor in two.state_dict().items():
        assert torch.equal(one.state_dict()[name], tensor)


def test_fragments_hold_every_coordinate_once():
    layout = small_population(1).layout
    for pattern in ("strided", "sequential"):
        for parts in (1, 2, 4, 7):
            found = make(StreamingDiloco, fragments=parts, pattern=pattern).fragments(layout)
            weights, buffers = (torch.cat(both).sort().values for both in zip(*found, strict=True))
            assert len(found) == parts
            assert weights.tolist() == list(range(371)) and buffers.tolist() == list(range(20))


def test_a_mean_must_arrive_before_the_next_departs():
    with pytest.raises(ValidationError, match=r"tau \(5\) must be less than every \(5\)"):
        StreamingDilocoOptions(every=5, tau=5)


# PALSGD -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("eta", [0.5, 100.0])
def test_palsgd_draws_back_or_steps_further(eta):
    n, p, every = 3, 0.3, 8
    population, exchange = small_population(n), LocalExchange(n, 5)
    method = make(Palsgd, p=p, eta=eta, every=every)
    phi = population.weights[0].double().numpy().copy()
    theta, v, pseudo = np.tile(phi, (n, 1)), np.zeros_like(phi), 0
    last = theta
    for clock, stepped in training(method, population, exchange):
        update = stepped["weights"].double().numpy() - last
        if exchange.stream("pseudo", clock.step).random() < p:
            theta = theta - min(1.0, clock.lr / p * eta) * (theta - phi)
            pseudo += 1
        else:
            theta = theta + update / (1 - p)
        if (clock.step + 1) % every == 0 and not clock.last:
            delta = phi - theta.mean(axis=0)
            v = 0.9 * v + delta
            phi = phi - 0.7 * (delta + 0.9 * v)
            theta = np.tile(phi, (n, 1))
        np.testing.assert_allclose(population.weights, theta, rtol=1e-4, atol=1e-4)
        last = population.weights.double().numpy().copy()
    assert 5 < pseudo < 20


def test_palsgd_without_pseudo_synchronizations_is_diloco():
    assert same_bits(train(make(Palsgd, p=0.0, every=6), 3), train(make(Diloco, every=6), 3))
    assert not same(train(make(Palsgd, p=0.2, every=6), 3), train(make(Diloco, every=6), 3))


def test_pseudo_synchronizations_send_nothing():
    ledgers = []
    for method in (make(Palsgd, p=0.5, every=6), make(Diloco, every=6)):
        population, exchange = small_population(3), LocalExchange(3, 0)
        for clock, before in training(method, population, exchange):
            assert clock.step < PLAN.steps and not changed(population, before) - {
                "weights",
                "buffers",
            }
        ledgers.append(exchange.ledger.as_dict())
    assert ledgers[0] == ledgers[1]
