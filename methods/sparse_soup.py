"""Sparse model soups (Zimmer, Spiegel, Pokutta 2024, ICLR, arXiv 2306.16788).

A dense parent is trained alone. Then, for cycles j = 1..P:

    prune     the smallest weights of the parent by magnitude, to sparsity s_j
    retrain   N copies of it, pruned weights kept at zero, each in its own order of the data
    average   the copies; the average has the same zeros and is the parent of the next cycle

Every cycle prunes the same share of what is left: s_j = 1 - (1 - s)^(j / P) reaches s with the last
(strategies.py of the published code). The last cycle ends with the training: the copies stay
distinct and their average is the model that is delivered.

What is pruned: the weights of convolutions and linear layers, the classifier included, ranked all
together; biases and normalization are not. The mask follows from the weights that all members
share when a cycle begins, so it does not travel, and an average sends only what is not pruned. A
cycle begins with a new optimizer, hence zero momentum; masked weights and momenta are set back to
zero after each step, which equals masked gradients for any elementwise optimizer.

Deviations: copies differ in data order and augmentation (and recipe, under heterogeneous
augmentation), the paper also varies weight decay and the length of retraining. The learning rate
follows the run's schedule; the paper retrains with schedules of their own. BatchNorm statistics of
a parent are averaged, those of the final average re-estimated (the code recalibrates both on part
of the data). With a single member there is nothing to average: it trains densely.

Verified in the published code: what is pruned, the sparsities, momentum masked with the weights.
Not verified: the lengths of the phases, s and P.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from wash_bench.core.layout import Layout, Slice
from wash_bench.core.ledger import CommEvent, charge_broadcast, charge_mean
from wash_bench.core.method import CommShape, Method, MethodOptions, option
from wash_bench.core.step_info import StepInfo
from wash_bench.errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor

    from wash_bench.core.exchange import Exchange
    from wash_bench.core.merge_context import MergeContext, Predictor
    from wash_bench.core.population import Population

FREE = "the paper takes many settings"


class SparseSoupOptions(MethodOptions):
    """Settings of sparse model soups."""

    sparsity: float = option(
        0.9, "s, share of the weights that are zero in the end", unverified=FREE, ge=0, lt=1
    )
    cycles: int = option(3, "P, prune-retrain-average cycles", unit="cycles", unverified=FREE, ge=1)
    dense: float = option(
        0.5,
        "training of the dense parent, the rest is shared by the cycles (rounded down to epochs)",
        unit="share of epochs",
        unverified=FREE,
        gt=0,
        lt=1,
    )


class SparseSoup(Method):
    """Copies of one pruned parent, retrained apart and averaged with their zeros kept."""

    name = "sparse-soup"
    rule = "prune the parent by magnitude, retrain N copies, average with the mask kept; repeat"
    paper = "Zimmer et al. 2024, arXiv 2306.16788"
    sends = "one copy of the dense parent, then at each cycle the weights that are not pruned"
    when = "one pruned network: the averages keep its zeros"
    needs = "a training long enough for the dense part and the cycles"
    Options = SparseSoupOptions
    options: SparseSoupOptions

    def __init__(self, options: MethodOptions | None = None) -> None:
        super().__init__(options)
        self._mask: Tensor | None = None  # (D,), true where a weight is kept

    # When ------------------------------------------------------------------------------------

    def dense_epochs(self, clock: StepInfo) -> int:
        """Epochs in which the parent trains alone; UsageError if none is left for a cycle."""
        if clock.epochs < 2:
            raise UsageError(
                "sparse-soup trains a dense parent and then retrains it: give it --epochs 2 or more"
            )
        share = math.floor(self.options.dense * clock.epochs + 1e-9)
        return min(max(share, 1), clock.epochs - 1)

    def cycle(self, epoch: int, clock: StepInfo) -> int:
        """The cycle, from 1, that an epoch belongs to; 0 is the dense parent's training."""
        dense, cycles = self.dense_epochs(clock), self.options.cycles
        begins = [dense + j * (clock.epochs - dense) // cycles for j in range(cycles)]
        return sum(begin <= epoch for begin in begins)

    def beginning(self, clock: StepInfo) -> int:
        """The cycle that begins after this step; 0 if none does."""
        if not clock.epoch_end or clock.last:
            return 0
        following = self.cycle(clock.epoch + 1, clock)
        return following if following > self.cycle(clock.epoch, clock) else 0

    def active(self, n: int, clock: StepInfo) -> int:
        return 1 if self.cycle(clock.epoch, clock) == 0 else n

    # What ------------------------------------------------------------------------------------

    def prunable(self, layout: Layout) -> list[Slice]:
        """The tensors that are pruned."""
        return [p for p in layout.slices if p.kind == "weight" and len(p.shape) > 1]

    def pruned(self, layout: Layout, cycle: int) -> int:
        """How many weights are zero in a cycle."""
        if cycle == 0:
            return 0
        sparsity = 1 - (1 - self.options.sparsity) ** (cycle / self.options.cycles)
        return round(sparsity * sum(piece.size for piece in self.prunable(layout)))

    def facts(self, site: CommShape) -> dict[str, Any]:
        last = self.options.cycles
        names = [piece.name for piece in self.prunable(site.layout)]
        return {"pruned_tensors": names, "pruned_weights": self.pruned(site.layout, last)}

    # The rule --------------------------------------------------------------------------------

    def start(self, population: Population, exchange: Exchange) -> None:
        self._mask = None

    def after_step(self, population: Population, exchange: Exchange, clock: StepInfo) -> None:
        if exchange.n < 2:
            return
        if cycle := self.beginning(clock):
            self._meet(population, exchange)
            self._mask = self._keep(population, self.pruned(population.layout, cycle))
            for state in population.optimizer_state.values():
                state.zero_()
            population.optimizer_steps.zero_()
        if self._mask is not None:
            for rows in (population.weights, *population.optimizer_state.values()):
                rows.mul_(self._mask)

    def _meet(self, population: Population, exchange: Exchange) -> None:
        """Make all members the parent of the next cycle: the dense one, or their average."""
        if self._mask is None:
            exchange.broadcast_(population.weights, 0)
            for rows in (population.buffers, population.counters):
                if rows.shape[1]:
                    exchange.broadcast_(rows, 0, "buffers")
            return
        kept = self._mask.nonzero().squeeze(1)
        mean = exchange.mean(population.weights[:, kept])
        population.weights[:, kept] = mean
        if population.layout.buffer_size:
            population.buffers[:] = exchange.mean(population.buffers, "buffers")

    def _keep(self, population: Population, pruned: int) -> Tensor:
        """The mask (D,) without the ``pruned`` smallest weights; what was pruned stays so."""
        import torch

        magnitudes = population.weights[0].abs()
        if self._mask is not None:
            magnitudes[~self._mask] = -1.0
        candidates = torch.cat(
            [
                torch.arange(piece.offset, piece.stop, device=magnitudes.device)
                for piece in self.prunable(population.layout)
            ]
        )
        order = magnitudes[candidates].argsort(stable=True)  # the same on every process
        mask = torch.ones_like(magnitudes, dtype=torch.bool)
        mask[candidates[order[:pruned]]] = False
        return mask

    def charges(self, site: CommShape, clock: StepInfo) -> Sequence[CommEvent]:
        if site.n < 2 or not self.beginning(clock):
            return ()
        n, layout = site.n, site.layout
        current = self.cycle(clock.epoch, clock)
        if current == 0:
            beside = ((layout.buffer_size, 4), (layout.counter_size, 8))
            return [
                charge_broadcast(n, layout.size),
                *(charge_broadcast(n, size, "buffers", item) for size, item in beside if size),
            ]
        charges = [charge_mean(n, layout.size - self.pruned(layout, current))]
        if layout.buffer_size:
            charges.append(charge_mean(n, layout.buffer_size, "buffers"))
        return charges

    # Memory and merge ------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Tensor]:
        return {} if self._mask is None else {"mask": self._mask}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        self._mask = state.get("mask")

    def predictors(self, population: Population, judge: MergeContext) -> dict[str, Predictor]:
        from wash_bench.core.merge_context import Predictor

        average = judge.average()
        soup = judge.reestimated(average.states[0])
        return {"soup": Predictor([soup], average.members), "average": average}
