"""DiLoCo: local steps, then one step of an outer optimizer (Douillard et al. 2023, 2311.08105).

Algorithm 1 of the paper, with the run's own optimizer as the inner one. Every H steps

    Delta   = theta_global - (1/N) sum_n theta_n           the outer gradient
    v       <- m v + Delta
    theta_global <- theta_global - lr (Delta + m v)        Nesterov, as torch.optim.SGD
    theta_n <- theta_global                                for every n

Outer rate 0.7 and momentum 0.9 are the paper's, as is H = 500 (for language models; it tries 50
to 2,000). ``nesterov = False`` subtracts lr v instead. Outer rate 1 without momentum is federated
averaging (local_sgd.py), of which this is a subclass. The inner optimizer's state stays with
its member.

At the end of the training the outer step is taken as the merge: the model ``global`` is what the
next outer step would give, so that the members end distinct. If H does not divide the training,
that step closes a shorter round.

Of one member the rule is no plain training: it is the paper's single-worker DiLoCo, an outer
optimizer on one trajectory.

All members start as member 0, the algorithm's common theta_global; the broadcast is billed with
the first step. Deviation: the paper's networks have no BatchNorm. Here running statistics are
averaged when the weights are, without an outer step, so that after one they lag behind weights
that were carried beyond the mean; those of ``global`` are re-estimated on training images.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from wash_bench.core.ledger import CommEvent
from wash_bench.core.method import CommShape, MethodOptions, option
from wash_bench.core.step_info import StepInfo
from wash_bench.core.topology import start_charges, start_equal
from wash_bench.methods.local_sgd import LocalSgd, LocalSgdOptions

if TYPE_CHECKING:
    from torch import Tensor

    from wash_bench.core.exchange import Exchange
    from wash_bench.core.merge_context import MergeContext, Predictor
    from wash_bench.core.population import Population


class DilocoOptions(LocalSgdOptions):
    """Settings of DiLoCo."""

    every: int = option(500, "H, inner steps between two outer steps", unit="steps", ge=1)
    outer_lr: float = option(0.7, "learning rate of the outer optimizer", gt=0)
    outer_momentum: float = option(
        0.9, "momentum of the outer optimizer; 0 makes it plain SGD", ge=0, lt=1
    )
    nesterov: bool = option(True, "Nesterov's momentum in the outer optimizer")


class Diloco(LocalSgd):
    """Members that restart from one step of an outer optimizer on their mean change."""

    name = "diloco"
    rule = "theta_n <- OuterOpt(theta_global, theta_global - mean) every H steps"
    paper = "Douillard et al. 2023, arXiv 2311.08105"
    sends = "one copy of the common start, then all weights every H steps (d/H values a step)"
    when = "workers behind a slow link: rare averages, with momentum over them"
    needs = "a common start; outer weights and momentum in every process; H tuned"
    Options = DilocoOptions
    options: DilocoOptions  # pyright: ignore[reportIncompatibleVariableOverride]

    def __init__(self, options: MethodOptions | None = None) -> None:
        super().__init__(options)
        self._memory: dict[str, Tensor] = {}  # (D,) each, equal on all ranks: all know the mean

    def start(self, population: Population, exchange: Exchange) -> None:
        start_equal(population, exchange)
        weights_D = population.weights[0].clone()
        self._memory = {"global": weights_D, "momentum": weights_D.new_zeros(weights_D.shape)}

    def outer_step(
        self, mean_D: Tensor, where: slice | Tensor = slice(None)
    ) -> tuple[Tensor, Tensor]:
        """One outer step: the new global weights (D,) and momentum (D,); changes nothing.

        Args:
            mean_D: the members' mean.
            where: the coordinates that it is of, all by default.

        Returns:
            Both at these coordinates.
        """
        # theta - lr Delta is written as an interpolation from theta to the mean, which is exactly
        # the mean for lr = 1.
        options = self.options
        old = {name: self._memory[name][where] for name in ("global", "momentum")}
        momentum = options.outer_momentum * old["momentum"] + (old["global"] - mean_D)
        carried = options.outer_momentum * (momentum if options.nesterov else old["momentum"])
        weights = old["global"].lerp(mean_D, options.outer_lr) - options.outer_lr * carried
        return weights, momentum

    def restart(self, mean_D: Tensor) -> Tensor:
        weights, momentum = self.outer_step(mean_D)
        self._memory = {"global": weights, "momentum": momentum}
        return weights

    def charges(self, site: CommShape, clock: StepInfo) -> Sequence[CommEvent]:
        return [*start_charges(site, clock), *super().charges(site, clock)]

    def state_dict(self) -> dict[str, Tensor]:
        return dict(self._memory)

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        self._memory = dict(state)

    def predictors(self, population: Population, judge: MergeContext) -> dict[str, Predictor]:
        average = judge.average()
        (state,) = average.states
        weights, _ = self.outer_step(state.weights)
        merged = judge.reestimated(replace(state, weights=weights))
        return {"global": replace(average, states=[merged]), "average": average}
