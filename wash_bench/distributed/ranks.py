"""A run over torch.distributed: the exchange among ranks, and the world of one of them.

Every rank draws the same coordinates and permutations from the shared seed, so both sides of an
all-to-all know the sizes and the order of the values, and no index travels. The ledger charges
what the members send, whichever rank they are on, and is therefore the same on every rank and for
every number of ranks; ``link_bytes`` is what this rank really handed to the network.
"""

import json
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from wash_bench.core.exchange import BookedExchange, Exchange
from wash_bench.core.ledger import (
    Content,
    charge_broadcast,
    charge_fetch,
    charge_gather,
    charge_mean,
    copies,
)
from wash_bench.core.population import zero_rows
from wash_bench.distributed.world import Placement

# Rank 0 evaluates while the others wait. That a rank died is found by the heartbeat, much sooner.
COLLECTIVE_TIMEOUT = timedelta(hours=12)
# Shapes. N: members of the population, M: members of this rank, D: coordinates, K: chosen ones.


class DistributedExchange(BookedExchange):
    """Implements ``core.exchange.Exchange`` for the members of this rank.

    Args:
        n: members of the whole population.
        seed: the run's seed.

    Attributes:
        members: the global indices of this rank's members.
        link_bytes: payload that this rank has sent to other ranks: of an all-reduce
            2 (R-1)/R vectors (ring), of an all-to-all the values for other ranks, of a broadcast
            what it hands on in gloo's tree. Tests hold it against the kernel's counters.
    """

    def __init__(self, n: int, seed: int) -> None:
        super().__init__(n, seed)
        self.rank = dist.get_rank()
        self.placement = Placement(n, dist.get_world_size())
        self.members = self.placement.members(self.rank)
        self.link_bytes = 0.0
        self._owner = torch.tensor(self.placement.owner)

    def mean(self, rows: Tensor, content: Content = "weights") -> Tensor:
        self.ledger.add(charge_mean(self.n, rows.shape[1], content, rows.element_size()))
        ranks = self.placement.ranks
        self.link_bytes += 2 * (ranks - 1) / ranks * rows.shape[1] * rows.element_size()
        total_D = rows.sum(dim=0)
        dist.all_reduce(total_D)
        return total_D.div_(self.n)

    def permute_(
        self, tensors: Sequence[tuple[Tensor, Content]], coordinates: Tensor, sources: Tensor
    ) -> None:
        if self.book_permute(tensors, coordinates, sources):
            self._route([rows for rows, _ in tensors], coordinates, sources)

    def _route(self, tensors: list[Tensor], coordinates: Tensor, sources: Tensor) -> None:
        """Send every value to the rank of the member that receives it; all ranks call this.

        Sender and receiver list the values that pass between them in the same order: by tensor,
        then by receiving member, then by coordinate.
        """
        first = self.members.start
        device = tensors[0].device
        ranks = range(self.placement.ranks)
        origin = self._owner[sources]  # (K, N): the rank that each member's value comes from
        outgoing, out_sizes = [], []
        for rank in ranks:
            theirs = self.placement.members(rank)
            member, k = (origin[:, theirs.start : theirs.stop] == self.rank).T.nonzero().T
            row = (sources[k, member + theirs.start] - first).to(device)
            where = coordinates[k].to(device)
            outgoing += [rows[row, where] for rows in tensors]
            out_sizes.append(len(k) * len(tensors))
        mine = origin[:, first : self.members.stop]
        places = [(mine == rank).T.nonzero().T for rank in ranks]
        in_sizes = [member.shape[0] * len(tensors) for member, _ in places]

        values = torch.cat(outgoing)
        received = values.new_empty(sum(in_sizes))
        dist.all_to_all_single(received, values, in_sizes, out_sizes)
        self.link_bytes += (sum(out_sizes) - out_sizes[self.rank]) * values.element_size()
        for part, (member, k) in zip(received.split(in_sizes), places, strict=True):
            row, where = member.to(device), coordinates[k].to(device)
            for rows, block in zip(tensors, part.chunk(len(tensors)), strict=False):
                rows[row, where] = block

    def broadcast_(self, rows: Tensor, source: int, content: Content = "weights") -> None:
        self.ledger.add(charge_broadcast(self.n, rows.shape[1], content, rows.element_size()))
        owner = self.placement.owner[source]
        row = rows[source - self.members.start if owner == self.rank else 0].clone()
        ranks = self.placement.ranks
        self.link_bytes += copies((self.rank - owner) % ranks, ranks) * row.nbytes
        dist.broadcast(row, owner)
        rows.copy_(row.expand_as(rows))

    def gather(
        self, rows: Tensor, content: Content = "weights", stands_for: int | None = None
    ) -> Tensor:
        size, item = rows.shape[1], rows.element_size()
        self.ledger.add(charge_gather(self.n, size, content, item, stands_for))
        ranks = self.placement.ranks
        largest = len(self.placement.members(0))
        padded = rows.new_zeros(largest, rows.shape[1])
        padded[: len(rows)] = rows
        blocks = [torch.empty_like(padded) for _ in range(ranks)]
        dist.all_gather(blocks, padded)
        self.link_bytes += (ranks - 1) * padded.nbytes
        return torch.cat(
            [block[: len(self.placement.members(r))] for r, block in enumerate(blocks)]
        )

    def fetch(
        self,
        rows: Tensor,
        sources: Sequence[int],
        content: Content = "weights",
        stands_for: int | None = None,
    ) -> Tensor:
        size, item = rows.shape[1], rows.element_size()
        self.ledger.add(charge_fetch(sources, size, content, item, stands_for))
        out = torch.empty_like(rows)
        arrivals, departures = [], []
        for member, source in enumerate(sources):
            here, there = member in self.members, source in self.members
            if here and there:
                out[member - self.members.start] = rows[source - self.members.start]
            elif here:
                row = out[member - self.members.start]
                arrivals.append((row, self.placement.owner[source], member))
            elif there:
                row = rows[source - self.members.start].contiguous()
                departures.append((row, self.placement.owner[member], member))
                self.link_bytes += row.nbytes
        operations = [dist.P2POp(dist.irecv, row, peer, tag=tag) for row, peer, tag in arrivals]
        operations += [dist.P2POp(dist.isend, row, peer, tag=tag) for row, peer, tag in departures]
        if operations:
            for work in dist.batch_isend_irecv(operations):
                work.wait()
        return out


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
        return Placement(n, self.ranks).members(self.rank)

    def exchange(self, n: int, seed: int) -> Exchange:
        return DistributedExchange(n, seed)

    def all_reduce_mean(self, rows: Tensor, n: int) -> Tensor:
        total = rows.sum(dim=0)
        dist.all_reduce(total, group=self._group)
        return total.div_(n)

    def all_gather(self, values: Sequence[Any]) -> list[Any]:
        # As JSON, not as a pickle, which could carry code.
        text = torch.frombuffer(bytearray(json.dumps(list(values)).encode()), dtype=torch.uint8)
        sizes = [torch.empty(1, dtype=torch.int64) for _ in range(self.ranks)]
        dist.all_gather(sizes, torch.tensor([len(text)]), group=self._group)
        texts = [text.new_zeros(int(max(sizes))) for _ in sizes]
        padded = torch.zeros_like(texts[0])
        padded[: len(text)] = text
        dist.all_gather(texts, padded, group=self._group)
        parts = zip(texts, sizes, strict=True)
        return [value for part, size in parts for value in json.loads(bytes(part[:size].tolist()))]

    def gather_to_main(self, rows: Tensor, n: int) -> Tensor | None:
        placement = Placement(n, self.ranks)
        if self.rank:
            if rows.numel():
                dist.send(rows.contiguous(), 0, group=self._group)
            return None
        if self.ranks == 1:
            return rows
        whole = zero_rows(n, rows.shape[1], rows.device, rows.dtype)
        whole[: len(rows)] = rows
        for rank in range(1, self.ranks):
            members = placement.members(rank)
            block = rows.new_empty(len(members), rows.shape[1])
            if block.numel():
                dist.recv(block, rank, group=self._group)
                whole[members.start : members.stop] = block
        return whole

    def broadcast_object(self, value: Any) -> Any:
        box = [value]  # tasks are objects; they travel pickled between the ranks' own sockets
        dist.broadcast_object_list(box, 0, group=self._group)
        return box[0]

    def barrier(self) -> None:
        dist.barrier(group=self._group)
