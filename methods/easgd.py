"""EASGD: elastic averaging SGD (Zhang, Choromanska, LeCun 2015, NeurIPS, arXiv 1412.6651).

Members and a centre c pull at each other. After every tau-th step, both sides with the values
from before:

    theta_n <- theta_n - alpha (theta_n - c)                  for every n
    c       <- c + alpha sum_n (theta_n - c)  =  (1 - beta) c + beta mean(theta),   beta = N alpha

The centre is the model that is delivered. Members and centre start equal. The second form of the
centre's move takes one mean over the members, so every process can hold the centre itself and
there is no server; torch-distlearn's AllReduceEA does the same.

Deviations: the paper takes the gradient at the weights from before the pull, here the pull comes
after the step, as in AllReduceEA. The asynchronous variant and EAMSGD's Nesterov momentum are not
offered; the momentum of the run's optimizer is kept per member and not exchanged. BatchNorm's
running statistics, which the paper's networks lack, are pulled like weights and the centre has
its own. The pull acts in the last step too, if that is due: it is no merge.

Verified: the rule, in AllReduceEA's documentation and other implementations. Not verified: beta
and tau, which are recalled, not read.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from wash_bench.core.ledger import CommEvent
from wash_bench.core.method import CommShape, Method, MethodOptions, option
from wash_bench.core.step_info import StepInfo
from wash_bench.core.topology import mean_charges, start_charges, start_equal

if TYPE_CHECKING:
    from torch import Tensor

    from wash_bench.core.exchange import Exchange
    from wash_bench.core.ledger import Content
    from wash_bench.core.merge_context import MergeContext, Predictor
    from wash_bench.core.population import Population


class EasgdOptions(MethodOptions):
    """Settings of EASGD."""

    beta: float = option(
        0.9,
        "moving rate of the centre; a member's is alpha = beta / N",
        unverified="recalled, not checked against the paper",
        ge=0,
        le=1,
    )
    every: int = option(
        10,
        "tau, the period of the pull",
        unit="steps",
        unverified="recalled: the paper compares several, this one is PAPA's",
        ge=1,
    )


class Easgd(Method):
    """Members tied elastically to a centre that moves with them."""

    name = "easgd"
    rule = "theta_n <- theta_n - a (theta_n - c), c <- c + a sum_n (theta_n - c), every tau steps"
    paper = "Zhang et al. 2015, arXiv 1412.6651"
    sends = "one copy of the common start, then all weights every tau steps"
    when = "a centre that is delivered, and members that explore around it"
    needs = "a common start; the centre in every process; beta and tau tuned"
    Options = EasgdOptions
    options: EasgdOptions

    def __init__(self, options: MethodOptions | None = None) -> None:
        super().__init__(options)
        self._centre: dict[str, Tensor] = {}

    def due(self, clock: StepInfo) -> bool:
        """Whether members and centre pull at each other after this step."""
        return (clock.step + 1) % self.options.every == 0

    def start(self, population: Population, exchange: Exchange) -> None:
        start_equal(population, exchange)
        self._centre = {
            "weights": population.weights[0].clone(),
            "buffers": population.buffers[0].clone(),
        }

    def after_step(self, population: Population, exchange: Exchange, clock: StepInfo) -> None:
        if exchange.n < 2 or not self.due(clock):
            return
        self._pull(population.weights, exchange, "weights")
        if population.layout.buffer_size:
            self._pull(population.buffers, exchange, "buffers")

    def _pull(self, rows: Tensor, exchange: Exchange, content: Content) -> None:
        beta, centre = self.options.beta, self._centre[content]
        mean = exchange.mean(rows, content)  # before the members move
        rows.lerp_(centre, beta / exchange.n)
        centre.lerp_(mean, beta)

    def charges(self, site: CommShape, clock: StepInfo) -> Sequence[CommEvent]:
        pulls = site.n > 1 and self.due(clock)
        return start_charges(site, clock) + (mean_charges(site) if pulls else [])

    def state_dict(self) -> dict[str, Tensor]:
        return dict(self._centre)

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        self._centre = dict(state)

    def predictors(self, population: Population, judge: MergeContext) -> dict[str, Predictor]:
        from wash_bench.core.merge_context import Predictor
        from wash_bench.core.population import ModelState

        average = judge.average()
        centre = ModelState(
            self._centre["weights"], self._centre["buffers"], average.states[0].counters
        )
        return {"centre": Predictor([centre], average.members), "average": average}
