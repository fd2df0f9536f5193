"""SWAD: stochastic weight averaging densely, in a valley of the loss (Cha et al. 2021, 2102.08604).

The training is cut into segments; of each, every member keeps the mean of its weights after every
step. With L_k the validation loss of segment k, the average is taken over a valley:

    begin   the first s with L_s <= L_{s+1}, ..., L_{s+c-1}         c = 3
    level   b = (1 + r) mean(L_s, ..., L_{s+c-1})                   r = 0.3
    end     before the first k > s with min(L_k, ..., L_{k+e-1}) > b    e = 6, fewer at the end
    swad_n  = the mean over all steps of the segments from begin to end

Without such an s the last segment is taken. The model is the average of the members' valleys, as
DART's code averages the SWAD models of its branches.

The rule is that of the authors' code (khanrc/swad, domainbed/swad.py, commit 252190e, LossValley)
with its c, e and r, looked at afterwards: a method here sees validation data when the training is
done, so each member keeps two vectors (weights and BatchNorm statistics) a segment.

Deviations: L_k is the loss of the segment's mean; the code's is that of the weights at its end,
which would take as many vectors again. The code reaches back to segments before the begin that lie
below the level; this does not, which gives another valley for 63 % of random loss curves. Segments
weigh by their steps.

The members that are measured are those that trained; ``swad`` is the network that is delivered, so
that a merge rule around it does not see the valleys. Unverified: the length of a segment.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from wash_bench.core.method import MethodOptions, Rows, option
from wash_bench.core.step_info import StepInfo
from wash_bench.core.wrapper import Wrapper

if TYPE_CHECKING:
    from torch import Tensor

    from wash_bench.core.exchange import Exchange
    from wash_bench.core.merge_context import MergeContext, Predictor
    from wash_bench.core.method import Method
    from wash_bench.core.population import ModelState, Population

COUNTS = "swad steps"


class SwadOptions(MethodOptions):
    """Settings of SWAD."""

    segments: int = option(
        20,
        "equal parts of the training",
        unverified="the code's are of 200 or 300 steps, for other trainings",
        ge=1,
    )
    converge: int = option(3, "c, segments that decide where the valley begins", ge=1)
    tolerance: int = option(6, "e, segments that decide where it ends", ge=1)
    ratio: float = option(0.3, "r, the rise of the loss that ends it", ge=0)


def valley(losses: Sequence[float], converge: int, tolerance: int, ratio: float) -> range:
    """The segments of the valley, given every segment's loss; NaN is no loss."""
    known = [math.inf if math.isnan(loss) else loss for loss in losses]
    for begin in range(len(known) - converge + 1):
        window = known[begin : begin + converge]
        if window[0] <= min(window) < math.inf:
            level = (1 + ratio) * sum(window) / converge
            end = begin + 1
            while end < len(known) and min(known[end : end + tolerance]) <= level:
                end += 1
            return range(begin, end)
    return range(len(known) - 1, len(known))


class Swad(Wrapper):
    """The mean of all weights in the valley of each member's validation loss."""

    name = "swad"
    rule = "the mean of each member's weights after every step in a valley of its validation loss"
    paper = "Cha et al. 2021, arXiv 2102.08604"
    when = "a flat minimum of each member's trajectory, around any training rule"
    needs = "a validation split; two vectors a member and segment"
    Options = SwadOptions
    options: SwadOptions

    def __init__(self, options: MethodOptions | None = None, inner: Method | None = None) -> None:
        super().__init__(options, inner)
        self._steps: list[int] = [0] * self.options.segments  # in each segment so far

    def training_key(self) -> dict[str, Any]:
        """What chooses the valley changes no training."""
        own = {"segments": self.options.segments}
        return {"rule": self.name, "options": own, "around": self.inner.training_key()}

    def own_slots(self) -> Mapping[str, Rows]:
        slots: dict[str, Rows] = {}
        for segment in range(self.options.segments):
            slots |= {f"swad-{segment}": "weights", f"swad-buffers-{segment}": "buffers"}
        return slots

    def start(self, population: Population, exchange: Exchange) -> None:
        super().start(population, exchange)
        self._steps = [0] * self.options.segments

    def after_step(self, population: Population, exchange: Exchange, clock: StepInfo) -> None:
        super().after_step(population, exchange, clock)
        segment, memory = clock.step * self.options.segments // clock.steps, population.member_state
        self._steps[segment] += 1
        share = 1 / self._steps[segment]
        memory[f"swad-{segment}"].lerp_(population.weights, share)
        memory[f"swad-buffers-{segment}"].lerp_(population.buffers, share)

    def state_dict(self) -> dict[str, Tensor]:
        import torch

        return {**super().state_dict(), COUNTS: torch.tensor(self._steps)}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        self._steps = state[COUNTS].tolist()
        super().load_state_dict({name: held for name, held in state.items() if name != COUNTS})

    def predictors(self, population: Population, judge: MergeContext) -> dict[str, Predictor]:
        from wash_bench.core.merge_context import Predictor

        inside = super().predictors(population, judge)
        if not any(self._steps):  # members that were trained elsewhere
            return inside
        found = [self.of_member(population, member, judge) for member in range(len(judge.members))]
        swad = type(found[0]).mean(found)
        return {"swad": Predictor([swad], tuple(range(len(found)))), **inside}

    def of_member(self, population: Population, member: int, judge: MergeContext) -> ModelState:
        """The mean over a member's valley."""
        from wash_bench.core.population import ModelState

        memory, counters = population.member_state, judge.members[member].counters
        steps = [(segment, taken) for segment, taken in enumerate(self._steps) if taken]
        means = [
            ModelState(memory[f"swad-{k}"][member], memory[f"swad-buffers-{k}"][member], counters)
            for k, _ in steps
        ]
        losses = [judge.validation_loss(mean) for mean in means]
        options = self.options
        chosen = valley(losses, options.converge, options.tolerance, options.ratio)
        total = sum(steps[k][1] for k in chosen)
        weights = [steps[k][1] / total for k in chosen]
        return ModelState.combine([means[k] for k in chosen], weights)
