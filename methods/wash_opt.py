"""WASH+Opt: WASH that shuffles the optimizer's state along with the weights (arXiv 2405.17517).

The coordinates and permutations that WASH draws for the weights permute every optimizer state
tensor of the weights' shape in the same way: the momentum of SGD, both moments of Adam. A value
thus keeps the momentum that it was trained with:

    (theta_n^i, v_n^i) <- (theta_pi(n)^i, v_pi(n)^i)

It sends twice WASH's volume with SGD, three times with Adam. Unverified: that the authors' variant
is this one; the paper's text was not at hand, and a third party's re-implementation
(matttreed/dist-sims) has a switch for the optimizer's state. Options and choices are WASH's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from wash_bench.core.ledger import Content
from wash_bench.core.method import CommShape
from wash_bench.methods.wash import Wash

if TYPE_CHECKING:
    from wash_bench.core.population import Population
    from wash_bench.methods.wash import Together


class WashOpt(Wash):
    """WASH on the weights and, by the same permutations, on the optimizer's state."""

    name = "wash-opt"
    rule = "WASH, with the optimizer's state permuted like the weights"
    sends = "the chosen weights and their optimizer state (SGD: twice WASH, Adam: three times)"
    when = "WASH where a weight should bring its momentum along"
    needs = "as wash, and two (SGD) or three (Adam) times its bytes"

    def tensors(self, population: Population) -> tuple[Together, Together]:
        weights, buffers = super().tensors(population)
        states = population.optimizer_state.values()
        return [*weights, *((state, "optimizer") for state in states)], buffers

    def contents(self, site: CommShape) -> tuple[list[Content], list[Content]]:
        weights, buffers = super().contents(site)
        states: list[Content] = ["optimizer" for _ in range(site.optimizer_slots)]
        return weights + states, buffers
