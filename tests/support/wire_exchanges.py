"""Exchanges that a rank does over its own interface: the bytes counted there, the time taken."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
import torch.distributed as dist

from tests.support.netns import counters
from wash_bench.core.quantized import QuantizedExchange
from wash_bench.core.sampling import draw_coordinates, draw_permutations
from wash_bench.distributed.ranks import DistributedExchange
from wash_bench.methods.topk import TopKExchange, TopKOptions

# Shapes. R: ranks, and as many members; D: coordinates of a member.
KINDS = ("mean", "permute", "broadcast", "gather", "pairs", "ring")
# A mean of codes, by what the wrappers of these names put around the exchange.
CODED = ("int8", "int4", "topk")
# The collective alone, without what the exchange computes; "posted" is an all-to-all of single
# messages whose receivers are ready before anybody sends.
BARE = ("all-reduce", "all-to-all", "posted")


def prepared(
    exchange: DistributedExchange, kind: str, rows: torch.Tensor, p: float, step: int
) -> Callable[[], object]:
    """One exchange of ``rows`` (1, D); ``p`` is the probability that a coordinate is shuffled."""
    n = exchange.n
    if kind == "all-reduce":
        return lambda: dist.all_reduce(rows)
    if kind == "all-to-all":  # as many values as a shuffle moves on average
        sizes = [round(p * rows.shape[1] / n)] * n
        sizes[exchange.rank] = 0
        values = rows[0, : sum(sizes)]
        return lambda: dist.all_to_all_single(values.clone(), values, sizes, sizes)
    if kind == "posted":
        peers = [rank for rank in range(n) if rank != exchange.rank]
        values = torch.randn(n, round(p * rows.shape[1] / n))
        return lambda: _posted(values.clone(), values, peers)
    if kind == "mean":
        return lambda: exchange.mean(rows)
    if kind == "topk":  # p is the share of the coordinates that travels
        copies, common = torch.zeros_like(rows), torch.zeros_like(rows[0])
        return lambda: TopKExchange(exchange, TopKOptions(share=p), copies, common).mean(rows)
    if kind in CODED:
        return lambda: QuantizedExchange(exchange, int(kind[-1])).mean(rows)
    if kind == "permute":
        rng = exchange.stream("shuffle", step)
        coordinates = draw_coordinates(rng, [(0, rows.shape[1], p)])
        sources = draw_permutations(rng, len(coordinates), n)
        where, whence = torch.from_numpy(coordinates), torch.from_numpy(sources)
        return lambda: exchange.permute_([(rows, "weights")], where, whence)
    if kind == "broadcast":
        return lambda: exchange.broadcast_(rows, 0)
    if kind == "gather":
        return lambda: exchange.gather(rows)
    if kind == "pairs":  # 0 and 1 swap, 2 and 3; an odd one out keeps its own
        return lambda: exchange.fetch(rows, [m ^ 1 if m ^ 1 < n else m for m in range(n)])
    return lambda: exchange.fetch(rows, [(m + 1) % n for m in range(n)])


def _posted(received: torch.Tensor, sent: torch.Tensor, peers: list[int]) -> None:
    operations = [dist.P2POp(dist.irecv, received[peer], peer) for peer in peers]
    operations += [dist.P2POp(dist.isend, sent[peer], peer) for peer in peers]
    for work in dist.batch_isend_irecv(operations):
        work.wait()


def count(jobs: list[tuple[str, int, float, int]]) -> list[dict]:
    """What this rank sent in each job (kind, D, p, exchanges).

    Returns:
        A dict a job: ``link_bytes``, the ledger's ``wire_bytes`` of all members, and the counts
        of the interface, less those of the same measurement without an exchange.
    """
    idle = min((_counted(lambda: None) for _ in range(3)), key=lambda found: found["tx_bytes"])
    idle["resent"] = 0  # of a job, all are told
    results = []
    for kind, size, p, exchanges in jobs:
        exchange = DistributedExchange(dist.get_world_size(), seed=0)
        rows = torch.randn(1, size)
        prepared(exchange, kind, rows, p, 0)()  # the first one may have to connect
        exchange = DistributedExchange(dist.get_world_size(), seed=0)

        def work(e=exchange, k=kind, r=rows, p=p, times=exchanges) -> None:
            for step in range(times):
                prepared(e, k, r, p, step)()

        found = _counted(work)
        results.append(
            {name: found[name] - idle[name] for name in found}
            | {
                "kind": kind,
                "size": size,
                "exchanges": exchanges,
                "link_bytes": exchange.link_bytes,
                "wire_bytes": exchange.ledger.wire_bytes * exchange.n,
                "idle_bytes": idle["tx_bytes"],
            }
        )
    return results


def _counted(work: Callable[[], None], settle: float = 0.1) -> dict[str, int]:
    """Counts of the interface during ``work``, between two barriers.

    An acknowledgement may be delayed by 40 ms, so the counters are read after some rest.
    """
    dist.barrier()
    time.sleep(settle)
    before = counters()
    dist.barrier()
    work()
    dist.barrier()
    time.sleep(settle)
    after = counters()
    dist.barrier()
    return {name: after[name] - before[name] for name in after}


def seconds(jobs: list[tuple[str, int, float, int]]) -> list[list[float]]:
    """Seconds that each exchange of each job (kind, D, p, exchanges) takes, after one to warm up.

    All ranks begin at one moment of the clock that they share, and the time is that of the last
    one to be done. No time is spent on drawing coordinates.
    """
    results = []
    for kind, size, p, exchanges in jobs:
        exchange = DistributedExchange(dist.get_world_size(), seed=0)
        rows = torch.randn(1, size)
        work = [prepared(exchange, kind, rows, p, step) for step in range(exchanges + 1)]
        results.append([together(each) for each in work][1:])
    return results


def together(work: Callable[[], object], head_start: float = 0.2) -> float:
    """Seconds from a common start to the moment at which the last rank is done."""
    dist.barrier()
    start = torch.tensor(time.monotonic() + head_start, dtype=torch.float64)
    dist.broadcast(start, 0)
    time.sleep(max(0.0, float(start) - time.monotonic()))
    work()
    took = torch.tensor(time.monotonic() - float(start), dtype=torch.float64)
    dist.all_reduce(took, dist.ReduceOp.MAX)
    return float(took)
