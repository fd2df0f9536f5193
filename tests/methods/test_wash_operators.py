"""WASH's twins: cyclic shifts and averages of the coordinates that a shuffle takes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from tests.support import reference_rules
from tests.support.populations import PLAN, changed, copies, small_population, tensors
from tests.support.wash_selection import selected, wash
from wash_bench.core.exchange import LocalExchange
from wash_bench.core.ledger import CommLedger
from wash_bench.core.method import CommShape
from wash_bench.methods.wash import Wash, WashOptions
from wash_bench.methods.wash_opt import WashOpt


@pytest.mark.parametrize("kind", [Wash, WashOpt])
@pytest.mark.parametrize("n", [2, 5])
def test_a_cyclic_shift_is_one_for_all_coordinates_of_a_step(kind, n):
    shifts = set()
    for step in range(20):
        population = small_population(n)
        before = copies(population)
        method = wash(kind, p=0.3, permutation="cyclic_shift", buffers=True, layer_rule="constant")
        chosen = selected(method, population, 4, step)
        exchange = LocalExchange(n, 4)
        method.after_step(population, exchange, PLAN.clock(step))
        old, new = before["weights"], population.weights
        (shift,) = (r for r in range(n) if torch.equal(new[0, chosen], old[r, chosen]))
        shifts.add(shift)
        sources = [[(member + shift) % n for member in range(n)]] * len(chosen)
        for name in ("weights", "momentum"):
            expected = before[name].tolist()
            if name == "weights" or kind is WashOpt:
                expected = reference_rules.wash_shuffle(expected, chosen, sources)
            assert tensors(population)[name].tolist() == expected
        rolled = before["buffers"].roll(-shift, dims=0)  # by the same shift
        moved = population.buffers != before["buffers"]
        assert moved.any() and torch.equal(population.buffers[moved], rolled[moved])
        assert exchange.ledger.tallies["permute", "weights"].values == n * len(chosen)
    assert shifts == set(range(1, n))


@pytest.mark.parametrize("kind", [Wash, WashOpt])
def test_the_average_takes_the_coordinates_that_the_shuffle_would_take(kind):
    n, step = 4, 6
    population = small_population(n)
    before = copies(population)
    method = wash(kind, p=0.3, operator="average", buffers=True)
    chosen = selected(wash(kind, p=0.3), population, 9, step)
    assert 40 < len(chosen) < population.layout.size
    exchange = LocalExchange(n, 9)
    method.after_step(population, exchange, PLAN.clock(step))
    for name in ("weights", "momentum"):
        expected = before[name].tolist()
        if name == "weights" or kind is WashOpt:
            for coordinate in chosen:
                column = [row[coordinate] for row in expected]
                for row in expected:
                    row[coordinate] = sum(column) / n
        np.testing.assert_allclose(tensors(population)[name], expected, rtol=1e-5, atol=1e-6)
    moved = (population.buffers != before["buffers"]).any(dim=0)
    assert moved.any() and not moved.all()
    for column in population.buffers.T[moved]:
        torch.testing.assert_close(column, column.mean().expand(n))
    assert exchange.ledger.tallies["mean", "weights"].values == n * len(chosen)


def test_averaging_every_coordinate_is_local_sgd_but_for_the_last_step():
    population = small_population(3)
    method = wash(p=1, layer_rule="constant", operator="average")
    before = copies(population)
    method.after_step(population, LocalExchange(3, 0), PLAN.clock(39))
    assert not changed(population, before)  # the members end distinct
    method.after_step(population, LocalExchange(3, 0), PLAN.clock(38))
    torch.testing.assert_close(population.weights, before["weights"].mean(0).expand(3, -1))
    assert changed(population, before) == {"weights"}


@pytest.mark.slow
@pytest.mark.parametrize("kind", [Wash, WashOpt])
@pytest.mark.parametrize("twin", [{"operator": "average"}, {"permutation": "cyclic_shift"}])
@pytest.mark.parametrize("n", [2, 5])
def test_twins_cost_what_arithmetic_expects(kind, twin, n):
    """Mean and variance over 1,000 single exchanges of all tensors together."""
    method, population = wash(kind, p=0.1, buffers=True, **twin), small_population(n)
    totals, wires, events = [], [], set()
    for step in range(1000):
        exchange = LocalExchange(n, step)
        method.after_step(population, exchange, PLAN.clock(step % 39))
        totals.append(exchange.ledger.sent_values * n)
        wires.append(exchange.ledger.wire_bytes * n)
        events |= {(key, tally.events) for key, tally in exchange.ledger.tallies.items()}
    site, one = CommShape(population.layout, n), CommLedger(n)
    for charge in method.charges(site, PLAN.clock(0)):
        one.add(charge)
    sigma = one.sent_values_std * n
    assert abs(np.mean(totals) - one.sent_values * n) < 5 * sigma / np.sqrt(1000)
    assert np.var(totals) == pytest.approx(sigma**2, rel=0.25)
    assert np.mean(wires) == pytest.approx(one.wire_bytes * n, rel=0.03)
    assert events == {(key, tally.events) for key, tally in one.tallies.items()}


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"operator": "average", "permutation": "derangement"}, "leave permutation out"),
        ({"k": 2}, "k is of layer_rule first_k and last_k, not linear_to_zero"),
        ({"operator": "average", "self_correction": True}, "turn self_correction off"),
        ({"permutation": "cyclic_shift", "self_correction": True}, "turn self_correction off"),
    ],
)
def test_twins_that_make_no_sense_are_refused(options, word):
    with pytest.raises(ValidationError, match=word):
        WashOptions(**options)
