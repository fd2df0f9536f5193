"""HWA: hierarchical weight averaging, online and offline (Gu et al. 2023, arXiv 2304.11519).

    online:   every H steps  phi_e = (1/N) sum_n theta_n;  theta_n <- phi_e for every n
    offline:  phi = (1/I) sum of the I latest phi_e

The online average lets the members train faster, the offline one, over a window that slides along
the training, generalizes better. The members never see the offline average; it is the model that
is delivered. The end of the training closes the last cycle: the members are left distinct and
their average enters the window as the latest.

The window is held by every process: I vectors of the weights and BatchNorm statistics, in memory
and in each checkpoint.

Choices of the suite: members start from equal weights; BatchNorm statistics are averaged with the
weights online and re-estimated for the offline average; the optimizer's state is left alone.

Verified: that the two averages are joined in this way (abstract). Not verified: H, I, and what the
paper does about momentum and BatchNorm.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING

from wash_bench.core.ledger import CommEvent
from wash_bench.core.method import CommShape, Method, MethodOptions, option
from wash_bench.core.step_info import StepInfo
from wash_bench.core.topology import mean_charges, restart_from_mean, start_charges, start_equal

if TYPE_CHECKING:
    from torch import Tensor

    from wash_bench.core.exchange import Exchange
    from wash_bench.core.merge_context import MergeContext, Predictor
    from wash_bench.core.population import Population

UNKNOWN = "the paper's value is not known"


class HwaOptions(MethodOptions):
    """Settings of HWA."""

    every: int = option(
        0,
        "H, the time between two online averages (0: an epoch)",
        unit="steps",
        ge=0,
        unverified=UNKNOWN,
    )
    window: int = option(
        10,
        "I, the online averages that the offline one is made of",
        unit="averages",
        ge=1,
        unverified=UNKNOWN,
    )


class Hwa(Method):
    """Members restarted from their mean; the latest means averaged once more."""

    name = "hwa"
    rule = "theta_n <- mean every H steps; the model is the mean of the last I means"
    paper = "Gu et al. 2023, arXiv 2304.11519"
    sends = "one copy of the common start, then all weights every H steps"
    when = "local SGD with a smoother end: the mean of its last averages is delivered"
    needs = "a common start; I more vectors in every process; training images for BatchNorm"
    Options = HwaOptions
    options: HwaOptions

    def __init__(self, options: MethodOptions | None = None) -> None:
        super().__init__(options)
        self._window: deque[tuple[Tensor, Tensor]] = deque(maxlen=self.options.window)

    def due(self, clock: StepInfo) -> bool:
        """Whether the members restart from their mean after this step."""
        every = self.options.every
        cycle_end = (clock.step + 1) % every == 0 if every else clock.epoch_end
        return cycle_end and not clock.last

    def start(self, population: Population, exchange: Exchange) -> None:
        self._window.clear()
        start_equal(population, exchange)

    def after_step(self, population: Population, exchange: Exchange, clock: StepInfo) -> None:
        if self.due(clock):
            weights, buffers = restart_from_mean(population, exchange)
            self._window.append((weights.clone(), buffers.clone()))

    def charges(self, site: CommShape, clock: StepInfo) -> Sequence[CommEvent]:
        return start_charges(site, clock) + (mean_charges(site) if self.due(clock) else [])

    def state_dict(self) -> dict[str, Tensor]:
        return {
            f"{index:04d}/{name}": tensor
            for index, mean in enumerate(self._window)
            for name, tensor in zip(("weights", "buffers"), mean, strict=True)
        }

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        indices = sorted({name.partition("/")[0] for name in state})
        self._window.clear()
        self._window.extend((state[f"{i}/weights"], state[f"{i}/buffers"]) for i in indices)

    def predictors(self, population: Population, judge: MergeContext) -> dict[str, Predictor]:
        from wash_bench.core.merge_context import Predictor
        from wash_bench.core.population import ModelState

        average = judge.average()
        final = average.states[0]
        means = [ModelState(*mean, final.counters) for mean in self._window] + [final]
        offline = ModelState.mean(means[-self.options.window :])
        return {
            "hwa": Predictor([judge.reestimated(offline)], average.members),
            "average": average,
        }
