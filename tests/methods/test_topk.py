"""Top-k exchanges: the paper's Algorithm 1 restated, what is never lost, and exact bytes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.identities import common_start, move, same, train
from tests.support.populations import PLAN, small_population
from wash_bench.core.exchange import LocalExchange
from wash_bench.methods.topk import decode, encode, largest
from wash_bench.plugins.registry import find_method, make_method


def with_share(name: str, share: float, **options):
    return make_method(find_method(f"{name}+topk"), options | {"topk": {"share": share}})


def qsparse(start: np.ndarray, every: int, kept: int) -> np.ndarray:
    """Algorithm 1 of arXiv 1906.02367 without the quantizer, a worker at a time, in float64.

    ``start`` (N, D); the local steps are those of ``train``. Returns the workers (N, D) at the end.
    """
    n = len(start)
    server = start.mean(axis=0)
    workers = start.copy()
    reference = start.copy()  # what the server's copy is to a worker
    memory = np.zeros_like(start)
    for clock in PLAN.clocks():
        for r in range(n):
            steps = small_population(n)
            before = steps.weights[r].clone()
            move(steps, r, clock, r)
            workers[r] += (steps.weights[r] - before).double().numpy()
        if (clock.step + 1) % every or clock.last:
            continue
        sent = np.zeros_like(server)
        for r in range(n):
            wanted = memory[r] + workers[r] - reference[r]
            order = sorted(range(len(wanted)), key=lambda i: -abs(wanted[i]))
            code = np.zeros_like(wanted)
            for i in order[:kept]:
                code[i] = wanted[i]
            memory[r] = wanted - code
            sent += code
        server = server + sent / n
        workers[:] = server
        reference[:] = server
    return workers


@pytest.mark.parametrize("share", [0.01, 0.2, 1.0])
def test_around_local_sgd_it_is_the_papers_algorithm(share: float) -> None:
    start = common_start(3)
    expected = qsparse(start.weights.double().numpy(), 6, max(1, round(share * 371)))
    found = train(with_share("local-sgd", share, every=6), 3, population=start)
    np.testing.assert_allclose(found.weights.double(), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["local-sgd", "papa", "diloco", "post-local-sgd", "easgd", "hwa"])
def test_with_all_coordinates_it_is_the_method_itself(name: str) -> None:
    options = {"every": 6} if name in ("local-sgd", "papa", "diloco") else {}
    plain = train(make_method(find_method(name), options), 3)
    assert same(train(with_share(name, 1.0, **options), 3), plain, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["local-sgd", "papa"])
def test_what_is_left_out_travels_in_the_end(name: str) -> None:
    """Members that have stopped learning: after some d/k averages everybody knows their mean."""
    method = with_share(name, 0.1, every=1)
    population = common_start(3)
    population.remember(method.member_slots())
    exchange = LocalExchange(3, 0)
    method.start(population, exchange)
    first, *others = list(PLAN.clocks())
    for member in range(3):
        move(population, member, first, member)
    mean = population.weights.mean(dim=0)
    for clock in others:
        method.after_step(population, exchange, clock)
    held = method.state_dict()["topk mean"]
    if name == "papa":  # which has moved with what members were pulled to meanwhile
        assert (population.weights.mean(dim=0) - mean).norm() < 0.05 * mean.norm()
        mean = population.weights.mean(dim=0)
    torch.testing.assert_close(held, mean, rtol=1e-3, atol=5e-4)


@given(rows=st.integers(1, 4), size=st.integers(1, 300), data=st.data())
@settings(max_examples=50, deadline=None)
def test_a_code_holds_the_largest_entries_exactly(rows: int, size: int, data) -> None:
    kept = data.draw(st.integers(1, size))
    values = torch.randn(rows, size, generator=torch.Generator().manual_seed(size))
    coded = encode(values, largest(values, kept))
    assert coded.dtype == torch.uint8 and coded.shape == (rows, 8 * kept)
    for row, code in zip(values, coded, strict=True):
        indices, entries = decode(code)
        assert torch.equal(row[indices], entries)
        assert len(set(indices.tolist())) == kept
        others = row.abs().clone()
        others[indices] = 0
        assert entries.abs().min() >= others.max()


def test_bytes_are_eight_an_entry_and_one_mean_at_the_start() -> None:
    method = with_share("papa", 0.01, every=10)
    population = small_population(3)
    population.remember(method.member_slots())
    exchange = LocalExchange(3, 0)
    method.start(population, exchange)
    for clock in PLAN.clocks():
        method.after_step(population, exchange, clock)
    tallies, kept = exchange.ledger.tallies, 4  # of 371
    whole, codes = tallies["mean", "weights"], tallies["gather", "weights"]
    assert (whole.events, whole.values) == (1, 3 * 371)
    assert codes.values == codes.events * 3 * kept
    assert codes.sent_bytes == codes.events * 3 * 8 * kept
    assert codes.wire_bytes == 2 * codes.sent_bytes  # to two others
    assert codes.events == PLAN.steps // 10


def test_shuffles_travel_as_they_are() -> None:
    plain = train(make_method(find_method("wash"), {"p": 0.1}), 3)
    assert torch.equal(plain.weights, train(with_share("wash", 0.01, p=0.1), 3).weights)
