"""NoLoCo: DiLoCo without a collective (2506.10911; code gensyn-ai/noloco).

Each member has slow weights phi_n and an outer momentum m_n of its own. After every H-th step the
members meet in random disjoint pairs; with mean over the pair and D_n = theta_n - phi_n,

    m_n     <- mu m_n + eta mean(D) + eta (mean(phi) - phi_n)
    phi_n   <- phi_n + m_n
    theta_n <- phi_n

The last term draws the partners' slow weights together, which an all-reduce would keep equal. (The
two terms are eta (mean(theta) - phi_n), so that one vector would do; the code sends two, and so
does this.) The rule and the defaults are those of the published code (sparse_optimizer_c.py, commit
a1b4a42), with the run's own optimizer as the inner one. Of an odd number of members, one drawn at
random is its own partner; of one member the rule is an outer optimizer on one trajectory. With two
members, which start as one, it is DiLoCo with plain momentum. The default momentum of 0.5 is of the
published configurations; the code's function that builds the optimizer defaults to 0.9.

All members start as member 0. The last step is not an outer one: the members end distinct and their
average is the single model. Pairs come from a stream that all members share.

Choices of the suite: BatchNorm's running statistics are averaged over the pair, without an outer
step; the inner optimizer's state stays with its member.

Unverified: the paper's factor of the last term, for which the code takes eta.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar

from wash_bench.core.ledger import CommEvent, charge_fetch
from wash_bench.core.method import CommShape, Method, MethodOptions, Rows, option
from wash_bench.core.step_info import StepInfo
from wash_bench.core.topology import partners, start_charges, start_equal

if TYPE_CHECKING:
    from wash_bench.core.exchange import Exchange
    from wash_bench.core.population import Population


class NolocoOptions(MethodOptions):
    """Settings of NoLoCo."""

    every: int = option(50, "H, inner steps between two outer steps", unit="steps", ge=1)
    outer_lr: float = option(0.7, "eta, learning rate of the outer step", gt=0)
    outer_momentum: float = option(0.5, "mu, momentum of the outer step", ge=0, lt=1)


class Noloco(Method):
    """Members that take outer steps on what they and a random partner learned."""

    name = "noloco"
    rule = (
        "phi_n <- phi_n + m_n, m_n <- mu m_n + eta (mean(theta) - phi_n), means over a random pair"
    )
    paper = "NoLoCo 2025, arXiv 2506.10911"
    sends = "one copy of the common start, then weights and slow weights to a partner every H steps"
    when = "DiLoCo where no collective is to be had"
    needs = "two more vectors a member"
    Options = NolocoOptions
    options: NolocoOptions
    member_state: ClassVar[Mapping[str, Rows]] = {"slow": "weights", "outer": "weights"}

    def due(self, clock: StepInfo) -> bool:
        """Whether an outer step is taken after this step."""
        return (clock.step + 1) % self.options.every == 0 and not clock.last

    def start(self, population: Population, exchange: Exchange) -> None:
        start_equal(population, exchange)
        population.member_state["slow"].copy_(population.weights)
        population.member_state["outer"].zero_()

    def after_step(self, population: Population, exchange: Exchange, clock: StepInfo) -> None:
        if not self.due(clock):
            return
        theta, buffers = population.weights, population.buffers
        phi, m = population.member_state["slow"], population.member_state["outer"]
        # Of weights that are all equal, every difference is exactly 0.
        delta, apart = theta - phi, 0.0
        if exchange.n > 1:
            order = exchange.stream("pairs", clock.step).permutation(exchange.n).tolist()
            pair = partners(order)
            theirs, their_phi = exchange.fetch(theta, pair), exchange.fetch(phi, pair)
            delta = (delta + (theirs - their_phi)) / 2
            apart = (their_phi - phi) / 2
            if population.layout.buffer_size:
                buffers.lerp_(exchange.fetch(buffers, pair, "buffers"), 0.5)
        m.mul_(self.options.outer_momentum).add_(delta + apart, alpha=self.options.outer_lr)
        phi.add_(m)
        theta.copy_(phi)

    def charges(self, site: CommShape, clock: StepInfo) -> Sequence[CommEvent]:
        charges, layout = start_charges(site, clock), site.layout
        if site.n > 1 and self.due(clock):
            pair = partners(range(site.n))
            charges += [charge_fetch(pair, layout.size)] * 2
            if layout.buffer_size:
                charges.append(charge_fetch(pair, layout.buffer_size, "buffers"))
        return charges
