"""Trainings of the rules of test_rules_in_common, light enough for processes to import."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
import torch.distributed as dist

from tests.support.populations import PLAN, copies, small_network, small_population, tensors
from wash_bench.core.exchange import LocalExchange
from wash_bench.core.method import Method
from wash_bench.core.population import Population
from wash_bench.core.step_info import Schedule, StepInfo
from wash_bench.distributed.ranks import DistributedExchange
from wash_bench.methods.easgd import Easgd
from wash_bench.methods.gossip import Gossip, GossipOptions
from wash_bench.methods.hwa import Hwa, HwaOptions
from wash_bench.methods.lookaround import Lookaround
from wash_bench.methods.sparse_soup import SparseSoup, SparseSoupOptions
from wash_bench.methods.swap import Swap, SwapOptions
from wash_bench.methods.wash import Wash, WashOptions

VARIANTS: list[Callable[[], Method]] = [
    Lookaround,
    Swap,
    Hwa,
    Easgd,
    Gossip,
    SparseSoup,
    lambda: Hwa(HwaOptions(every=7, window=2)),
    lambda: Swap(SwapOptions(phase1=0)),
    lambda: Gossip(GossipOptions(topology="pairs", every=1, variance_correction=True)),
    lambda: Gossip(GossipOptions(every=3, variance_correction=True)),
    lambda: Gossip(GossipOptions(topology="alternating", every=2, power=1.0)),
    lambda: Gossip(GossipOptions(topology="exponential", every=1)),
    lambda: SparseSoup(SparseSoupOptions(dense=0.1, cycles=2, sparsity=0.7)),
]


def shake(population: Population, step: int) -> None:
    """What stands for an optimizer step: own noise for each member, whichever process has it."""
    for row, member in enumerate(population.members):
        generator = torch.Generator().manual_seed(1000 * step + member)
        for name in ("weights", "buffers", "momentum"):
            part = tensors(population)[name][row]
            part += 0.1 * torch.randn(part.shape, generator=generator)


def training(
    method: Method, population: Population, exchange, plan: Schedule = PLAN, first: int = 0
) -> Iterator[tuple[StepInfo, dict[str, torch.Tensor]]]:
    """Steps and couplings; each step with the rows from before its coupling."""
    if first == 0:
        population.remember(method.member_slots())
        method.start(population, exchange)
    for step in range(first, plan.steps):
        shake(population, step)
        before = copies(population)
        method.after_step(population, exchange, plan.clock(step))
        yield plan.clock(step), before


def spread_training(make: Callable[[], Method]) -> tuple[dict, dict, dict]:
    """The rows, memory and ledger of this process's share of a training of five members."""
    n, plan = 5, Schedule("cosine", 0.1, 1e-4, steps=16, steps_per_epoch=4)
    exchange = DistributedExchange(n, 2) if dist.is_initialized() else LocalExchange(n, 2)
    members = list(getattr(exchange, "members", range(n)))
    population = Population(lambda _: small_network(), members, optimizer_slots=("momentum",))
    for name, tensor in tensors(small_population(n)).items():
        tensors(population)[name].copy_(tensor[members])
    method = make()
    for _ in training(method, population, exchange, plan):
        pass
    return copies(population), method.state_dict(), exchange.ledger.as_dict()


def spread_trainings() -> list[tuple[dict, dict, dict]]:
    rare = Wash(WashOptions(p=0.002, operator="average"))  # mostly no coordinate at all
    return [spread_training(make) for make in (*VARIANTS, lambda: rare)]
