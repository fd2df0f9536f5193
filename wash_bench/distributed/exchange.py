"""The exchange over torch.distributed: the same collectives, members on several ranks.

Every rank draws the same coordinates and permutations from the shared seed, so both sides of an
all-to-all know the sizes and the order of the values, and no index travels. The ledger charges
what the members send, whichever rank they are on, and is therefore the same on every rank and for
every number of ranks; ``link_bytes`` is what this rank really handed to the network.
"""

from collections.abc import Sequence

import torch
import torch.distributed as dist
from torch import Tensor

from wash_bench.core.broadcast_tree import copies
from wash_bench.core.exchange import BookedExchange
from wash_bench.core.ledger import (
    Content,
    charge_broadcast,
    charge_fetch,
    charge_gather,
    charge_mean,
)
from wash_bench.distributed.spread import Spread

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
        self.spread = Spread(n, dist.get_world_size())
        self.members = self.spread.members(self.rank)
        self.link_bytes = 0.0
        self._owner = torch.tensor(self.spread.owner)

    def mean(self, rows: Tensor, content: Content = "weights") -> Tensor:
        self.ledger.add(charge_mean(self.n, rows.shape[1], content, rows.element_size()))
        ranks = self.spread.ranks
        self.link_bytes += 2 * (ranks - 1) / ranks * rows.shape[1] * rows.element_size()
        total_D = rows.sum(dim=0)
        dist.all_reduce(total_D)
        return total_D.div_(self.n)

    def permute_(
        self,
        tensors: Sequence[tuple[Tensor, Content]],
        coordinates: Tensor,
        sources: Tensor,
    ) -> None:
        if self.book_permute(tensors, sources):
            self._route([rows for rows, _ in tensors], coordinates, sources)

    def _route(self, tensors: list[Tensor], coordinates: Tensor, sources: Tensor) -> None:
        """Send every value to the rank of the member that receives it; all ranks call this.

        Sender and receiver list the values that pass between them in the same order: by tensor,
        then by receiving member, then by coordinate.
        """
        first = self.members.start
        device = tensors[0].device
        ranks = range(self.spread.ranks)
        origin = self._owner[sources]  # (K, N): the rank that each member's value comes from
        outgoing, out_sizes = [], []
        for rank in ranks:
            theirs = self.spread.members(rank)
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
        owner = self.spread.owner[source]
        row = rows[source - self.members.start if owner == self.rank else 0].clone()
        ranks = self.spread.ranks
        self.link_bytes += copies((self.rank - owner) % ranks, ranks) * row.nbytes
        dist.broadcast(row, owner)
        rows.copy_(row.expand_as(rows))

    def gather(
        self, rows: Tensor, content: Content = "weights", stands_for: int | None = None
    ) -> Tensor:
        size, item = rows.shape[1], rows.element_size()
        self.ledger.add(charge_gather(self.n, size, content, item, stands_for))
        ranks = self.spread.ranks
        largest = len(self.spread.members(0))
        padded = rows.new_zeros(largest, rows.shape[1])
        padded[: len(rows)] = rows
        blocks = [torch.empty_like(padded) for _ in range(ranks)]
        dist.all_gather(blocks, padded)
        self.link_bytes += (ranks - 1) * padded.nbytes
        return torch.cat([block[: len(self.spread.members(r))] for r, block in enumerate(blocks)])

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
                arrivals.append((row, self.spread.owner[source], member))
            elif there:
                row = rows[source - self.members.start].contiguous()
                departures.append((row, self.spread.owner[member], member))
                self.link_bytes += row.nbytes
        operations = [dist.P2POp(dist.irecv, row, peer, tag=tag) for row, peer, tag in arrivals]
        operations += [dist.P2POp(dist.isend, row, peer, tag=tag) for row, peer, tag in departures]
        if operations:
            for work in dist.batch_isend_irecv(operations):
                work.wait()
        return out
