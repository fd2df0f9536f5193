"""The processes of a run that torch.distributed joined, as each of them sees the others."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import torch.distributed as dist
from torch import Tensor

from wash_bench.core.exchange import Exchange
from wash_bench.core.population import zero_rows
from wash_bench.distributed.exchange import DistributedExchange
from wash_bench.distributed.spread import Spread

# Rank 0 evaluates while the others wait. That somebody died is found by the watch, much sooner.
COLLECTIVE_TIMEOUT = timedelta(hours=12)


class DistributedWorld:
    """This process as a rank of the default process group.

    Bookkeeping has a group of its own, so that it may pass while a method's exchange is under way
    in another thread.
    """

    def __init__(self) -> None:
        self.rank = dist.get_rank()
        self.ranks = dist.get_world_size()
        group = dist.new_group(timeout=COLLECTIVE_TIMEOUT)
        assert isinstance(group, dist.ProcessGroup)  # every rank is a member
        self._group = group

    def members(self, n: int) -> range:
        return Spread(n, self.ranks).members(self.rank)

    def exchange(self, n: int, seed: int) -> Exchange:
        return DistributedExchange(n, seed)

    def mean_row(self, rows: Tensor, n: int) -> Tensor:
        total = rows.sum(dim=0)
        dist.all_reduce(total, group=self._group)
        return total.div_(n)

    def collect(self, values: Sequence[Any]) -> list[Any]:
        parts: list[Any] = [None] * self.ranks
        dist.all_gather_object(parts, list(values), group=self._group)
        return [value for part in parts for value in part]

    def rows_at_main(self, rows: Tensor, n: int) -> Tensor | None:
        spread = Spread(n, self.ranks)
        if self.rank:
            if rows.numel():
                dist.send(rows.contiguous(), 0, group=self._group)
            return None
        if self.ranks == 1:
            return rows
        whole = zero_rows(n, rows.shape[1], rows.device, rows.dtype)
        whole[: len(rows)] = rows
        for rank in range(1, self.ranks):
            members = spread.members(rank)
            block = rows.new_empty(len(members), rows.shape[1])
            if block.numel():
                dist.recv(block, rank, group=self._group)
                whole[members.start : members.stop] = block
        return whole

    def share(self, value: Any) -> Any:
        box = [value]
        dist.broadcast_object_list(box, 0, group=self._group)
        return box[0]

    def wait(self) -> None:
        dist.barrier(group=self._group)
