"""Graphs of partners, and DSGD-AC, NoLoCo and weakened averages against plain loops."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from tests.support.identities import make, same, train
from tests.support.method_checks import FakeJudge, close, mean
from tests.support.method_trainings import training
from tests.support.populations import PLAN, changed, small_population
from wash_bench.core.exchange import LocalExchange
from wash_bench.core.step_info import Schedule
from wash_bench.core.topology import alternating_ring, exponential_peers
from wash_bench.methods.diloco import Diloco
from wash_bench.methods.dsgd_ac import DsgdAc
from wash_bench.methods.gossip import Gossip, GossipOptions
from wash_bench.methods.local_sgd import LocalSgd
from wash_bench.methods.noloco import Noloco
from wash_bench.methods.papa import Papa, PapaOptions

# Graphs -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", range(1, 18))
def test_partners_are_mutual_and_reach_everybody(n):
    for peers, turns in ((alternating_ring, n + 1), (exponential_peers, n.bit_length())):
        reached = {0}
        for event in range(turns):
            partner = peers(n, event)
            assert [partner[other] for other in partner] == list(range(n))
            reached |= {partner[member] for member in reached}
        assert reached == set(range(n)) or n not in (2, 4, 8, 16)


def test_partners_by_hand():
    assert alternating_ring(6, 0) == [1, 0, 3, 2, 5, 4]
    assert alternating_ring(6, 1) == [5, 2, 1, 4, 3, 0]
    assert alternating_ring(5, 2) == [1, 0, 3, 2, 4]
    assert alternating_ring(5, 3) == [0, 2, 1, 4, 3]
    assert [exponential_peers(5, event) for event in range(4)] == [
        [1, 0, 3, 2, 4],
        [2, 3, 0, 1, 4],
        [4, 1, 2, 3, 0],
        [1, 0, 3, 2, 4],
    ]


def test_after_a_round_of_exponential_peers_a_power_of_two_agrees():
    population = small_population(8)
    centre = population.weights.mean(dim=0)
    method = Gossip(GossipOptions(topology="exponential", every=1))
    for step in range(3):
        method.after_step(population, LocalExchange(8, 0), PLAN.clock(step))
    torch.testing.assert_close(population.weights, centre.expand(8, -1), rtol=1e-5, atol=1e-6)


# Gossip and PAPA --------------------------------------------------------------------------------


@pytest.mark.parametrize("topology", ["alternating", "exponential"])
@pytest.mark.parametrize("n", [2, 3, 6])
def test_gossip_with_one_partner_at_a_time_and_a_power_of_the_rate(topology, n):
    population = small_population(n)
    method = Gossip(GossipOptions(topology=topology, every=3, power=2.0))
    event = 0
    for clock, before in training(method, population, LocalExchange(n, 0)):
        if (clock.step + 1) % 3 or clock.last:
            assert not changed(population, before)
            continue
        g = (PLAN.at(clock.step + 1) / 0.1) ** 2
        if topology == "alternating":
            edges = [(a, (a + 1) % n) for a in range(event % 2, n - 1 + (n % 2 == 0), 2)]
        else:
            bit = 2 ** (event % (n - 1).bit_length())
            edges = [(a, a ^ bit) for a in range(n) if a < a ^ bit < n]
        for name in ("weights", "buffers"):
            expected = before[name].double().numpy().copy()
            for a, b in edges:
                centre = (before[name][a] + before[name][b]).double().numpy() / 2
                for member in (a, b):
                    expected[member] = (1 - g) * expected[member] + g * centre
            np.testing.assert_allclose(getattr(population, name), expected, **close)
        event += 1
    assert event == 13


def test_the_variance_correction_asks_for_whole_averages():
    with pytest.raises(ValidationError, match="leave power at 0"):
        GossipOptions(variance_correction=True, power=1.0)


def test_papa_may_follow_a_power_of_the_rate():
    plan = Schedule("multistep", 0.1, 0.0, 100, 10, milestones=(0.5,))
    late = plan.clock(60)  # a tenth of the rate
    for power, pull in ((0.0, 1e-2), (1.0, 1e-3), (3.0, 1e-5)):
        assert 1 - Papa(PapaOptions(power=power)).alpha(late) == pytest.approx(pull)


def test_options_that_came_later_are_told_only_where_they_differ():
    assert "power" not in Papa().settings() and "power" not in Gossip().settings()
    assert Papa(PapaOptions(power=3.0)).settings()["power"] == 3.0
    assert Papa(PapaOptions(power=3.0)).training_key() != Papa().training_key()


# DSGD-AC ----------------------------------------------------------------------------------------

WARM = Schedule("cosine", 0.1, 1e-3, steps=40, steps_per_epoch=4, warmup=6)


@pytest.mark.parametrize("topology", ["alternating", "exponential", "complete"])
@pytest.mark.parametrize(
    ("start", "power", "floor"), [(0.2, 3.0, 0.0), (0.0, 1.0, 0.25), (1, 3, 0)]
)
def test_dsgd_ac_mixes_the_weights_that_the_gradient_is_taken_at(topology, start, power, floor):
    n, plan = 4, WARM
    population, exchange = small_population(n), LocalExchange(n, 0)
    method = make(DsgdAc, topology=topology, start=start, power=power, floor=floor)
    old = theta = np.tile(population.weights[0].double().numpy(), (n, 1))
    for clock, stepped in training(method, population, exchange, plan):
        # What the optimizer did to the weights, as the float32 rows have it.
        step = stepped["weights"].double().numpy() - old
        if clock.step == 0:
            np.testing.assert_array_equal(population.weights, stepped["weights"])
        first = int(10 * start)
        g = 1.0
        if clock.epoch >= first:
            g = min(1.0, floor + (1 - floor) * (clock.lr / plan.at(4 * first)) ** power)
        w = np.zeros((n, n))
        if topology == "complete":
            w[:] = 1 / n
        for member in range(n) if topology != "complete" else ():
            event = clock.step - 1
            forward = (member + event) % 2 == 0
            other = (member + (1 if forward else -1)) % n
            other = other if topology == "alternating" else member ^ (1 + event % 2)
            w[member, member], w[member, other] = 0.5, 0.5
        w = w if clock.step else np.eye(n)
        theta = (1 - g) * theta + g * (w @ theta) + step
        np.testing.assert_allclose(population.weights, theta, rtol=1e-4, atol=1e-5)
        assert torch.equal(population.buffers, stepped["buffers"])
        old = population.weights.double().numpy().copy()
    events = exchange.ledger.tallies["mean" if topology == "complete" else "fetch", "weights"]
    assert events.events == 39 and events.values == 39 * n * population.layout.size


def test_dsgd_ac_on_the_complete_graph_with_full_weight_averages_every_step():
    """What a member ends a step with is the mean of all and its own update."""
    population, exchange = small_population(3), LocalExchange(3, 0)
    method = make(DsgdAc, topology="complete", start=1.0)
    before = None
    for clock, stepped in training(method, population, exchange):
        if before is not None:
            update = stepped["weights"] - before
            expected = torch.tensor(mean(before)) + update
            torch.testing.assert_close(population.weights, expected, rtol=1e-5, atol=1e-5)
        before = population.weights.clone()
        assert clock.step < 40


def test_dsgd_ac_without_weight_is_plain_training():
    plain = train(make(LocalSgd, every=PLAN.steps), 3)
    never = make(DsgdAc, start=0.0, power=0.0, floor=0.0)
    assert not same(train(never, 3), plain)  # power 0 mixes fully to the end
    method = make(DsgdAc, start=0.0, power=400.0)
    trained = train(method, 3)
    spread = (trained.weights - trained.weights.mean(dim=0)).norm()
    held = train(make(DsgdAc, start=1.0), 3).weights
    assert spread > 3 * (held - held.mean(dim=0)).norm()


def test_dsgd_ac_delivers_the_average_with_new_statistics():
    population = small_population(3)
    delivered = DsgdAc().predictors(population, FakeJudge(population))
    assert list(delivered) == ["dsgd-ac", "average"]
    assert (delivered["dsgd-ac"].states[0].buffers == 7).all()


# NoLoCo -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [1, 2, 4, 5])
def test_noloco_takes_outer_steps_in_pairs(n):
    population, exchange = small_population(n), LocalExchange(n, 3)
    method = make(Noloco, every=4, outer_lr=0.6, outer_momentum=0.5)
    phi = np.tile(population.weights[0].double().numpy(), (n, 1))
    m, seen = np.zeros_like(phi), set()
    for clock, before in training(method, population, exchange):
        if (clock.step + 1) % 4 or clock.last:
            assert not changed(population, before)
            continue
        order = exchange.stream("pairs", clock.step).permutation(n).tolist()
        partner = {a: a for a in range(n)}
        for i in range(0, n - 1, 2):
            partner |= {order[i]: order[i + 1], order[i + 1]: order[i]}
        seen.add(tuple(sorted(partner.items())))
        theta = before["weights"].double().numpy()
        old_m, old_phi = m.copy(), phi.copy()
        for a, b in partner.items():
            delta = ((theta[a] - old_phi[a]) + (theta[b] - old_phi[b])) / 2
            together = (old_phi[a] + old_phi[b]) / 2
            m[a] = 0.5 * old_m[a] + 0.6 * delta + 0.6 * (together - old_phi[a])
            phi[a] = old_phi[a] + m[a]
        np.testing.assert_allclose(population.weights, phi, rtol=1e-4, atol=1e-5)
        for a, b in partner.items():
            expected = (before["buffers"][a] + before["buffers"][b]) / 2
            torch.testing.assert_close(population.buffers[a], expected)
    assert len(seen) > 1 or n < 4
    if n > 1:
        events, d = 9, population.layout.size
        assert exchange.ledger.tallies["fetch", "weights"].values == events * 2 * (n - n % 2) * d


@pytest.mark.parametrize(("lr", "mu"), [(0.7, 0.5), (0.7, 0.0), (1.0, 0.0)])
def test_two_members_of_noloco_are_diloco_with_plain_momentum(lr, mu):
    pairs = train(make(Noloco, every=4, outer_lr=lr, outer_momentum=mu), 2)
    outer = make(Diloco, every=4, outer_lr=lr, outer_momentum=mu, nesterov=False)
    assert same(pairs, train(outer, 2), rtol=1e-4, atol=1e-5)
    if (lr, mu) == (1.0, 0.0):
        from tests.support.identities import common_start

        local = train(make(LocalSgd, every=4), 2, population=common_start(2))
        assert same(pairs, local, rtol=1e-4, atol=1e-5)
