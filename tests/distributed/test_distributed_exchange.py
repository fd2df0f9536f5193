"""The distributed exchange gives what the one in one process gives, over 2 and 3 ranks."""

from __future__ import annotations

import pytest
import torch

from tests.support.ranks import in_ranks
from wash_bench.core.exchange import LocalExchange
from wash_bench.core.sampling import draw_coordinates, draw_permutations
from wash_bench.distributed.ranks import DistributedExchange
from wash_bench.distributed.world import Placement
from wash_bench.errors import UsageError

N, D = 5, 400


def _rows(seed: int) -> torch.Tensor:
    return torch.randn(N, D, generator=torch.Generator().manual_seed(seed))


def _shuffle(exchange, tensors: list[tuple[torch.Tensor, str]], step: int) -> None:
    rng = exchange.stream("shuffle", step)
    coordinates = draw_coordinates(rng, [(0, D, 0.3)])
    sources = draw_permutations(rng, len(coordinates), N)
    exchange.permute_(tensors, torch.from_numpy(coordinates), torch.from_numpy(sources))


def _all_kinds(exchange, members: range) -> dict[str, torch.Tensor]:
    """Every collective on this process's rows."""
    mine = slice(members.start, members.stop)
    results = {"mean": exchange.mean(_rows(1)[mine])[None].expand(len(members), D)}
    shuffled, momentum = _rows(2)[mine].clone(), _rows(12)[mine].clone()
    for step in range(5):
        _shuffle(exchange, [(shuffled, "weights"), (momentum, "optimizer")], step)
    results["permute"] = shuffled
    results["permute together"] = momentum
    copies = _rows(3)[mine].clone()
    exchange.broadcast_(copies, 3)
    results["broadcast"] = copies
    counters = torch.arange(N, dtype=torch.int64)[mine, None].clone()
    exchange.broadcast_(counters, 4, "buffers")
    results["integers"] = counters
    results["gather"] = exchange.gather(_rows(4)[mine])[None].expand(len(members), N, D)
    results["pairs"] = exchange.fetch(_rows(5)[mine], [1, 0, 3, 2, 4])
    results["ring"] = exchange.fetch(_rows(6)[mine], [(n + 1) % N for n in range(N)])
    return {name: tensor.clone() for name, tensor in results.items()}


def _in_rank() -> tuple[dict[str, torch.Tensor], dict, float]:
    exchange = DistributedExchange(N, seed=0)
    results = _all_kinds(exchange, exchange.members)
    return results, exchange.ledger.as_dict(), exchange.link_bytes


@pytest.fixture(scope="module", params=[1, 2, 3, 5])
def answers(request) -> list:
    return in_ranks(request.param, _in_rank)


@pytest.mark.slow
def test_same_values_as_in_one_process(answers: list) -> None:
    local = LocalExchange(N, seed=0)
    expected = _all_kinds(local, range(N))
    for name, tensor in expected.items():
        together = torch.cat([results[name] for results, *_ in answers])
        if name == "mean":  # the order of a sum is the collective's
            torch.testing.assert_close(together, tensor, rtol=1e-6, atol=1e-6)
        else:
            assert torch.equal(together, tensor), name


@pytest.mark.slow
def test_the_ledger_does_not_depend_on_the_ranks(answers: list) -> None:
    local = LocalExchange(N, seed=0)
    _all_kinds(local, range(N))
    for _, ledger, _ in answers:
        assert ledger == local.ledger.as_dict()


@pytest.mark.slow
def test_with_a_member_a_rank_the_links_carry_the_ledgers_wire_bytes(answers: list) -> None:
    total = sum(link for *_, link in answers)
    if len(answers) == 1:
        assert total == 0
        return
    _, ledger, _ = answers[0]
    wire = sum(tally["wire_bytes"] for tally in ledger.values())
    if len(answers) == N:
        assert total == pytest.approx(wire)
    else:  # members on one rank exchange in memory
        assert 0 < total < wire


@pytest.mark.parametrize(("n", "ranks"), [(5, 2), (5, 3), (7, 4), (3, 3), (4, 1)])
def test_members_are_spread_as_evenly_as_can_be(n: int, ranks: int) -> None:
    placement = Placement(n, ranks)
    blocks = [placement.members(rank) for rank in range(ranks)]
    assert [member for block in blocks for member in block] == list(range(n))
    sizes = [len(block) for block in blocks]
    assert max(sizes) - min(sizes) <= 1
    assert [placement.owner[member] for block in blocks for member in block] == [
        rank for rank, block in enumerate(blocks) for _ in block
    ]


def test_more_ranks_than_members_are_refused() -> None:
    with pytest.raises(UsageError, match="4 processes for 3 members"):
        Placement(3, 4)
