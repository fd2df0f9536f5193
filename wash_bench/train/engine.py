"""What takes the members' optimizer steps: one after another, as plain PyTorch does.

An engine is how a step is computed, never what it computes: batches, seeds, learning rates and
update rules are the same under each, and so are the weights within float32 rounding.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from wash_bench.core.step_info import StepInfo
from wash_bench.data.source import Batch
from wash_bench.models.batchnorm import freeze
from wash_bench.seeds import derive
from wash_bench.train.loss import EagerLoss, MemberLoss
from wash_bench.train.optim import RowOptimizer
from wash_bench.train.probe import LEADER, LinearProbe

if TYPE_CHECKING:
    from wash_bench.config import TrainingConfig
    from wash_bench.core.population import Population


class Engine:
    """Eager steps.

    Args:
        population: this process's members.
        config: the settings of the training.
        seed: the run's seed.
        loss: how the loss of a batch is computed, by default by the members' own networks.

    Attributes:
        scalers: the loss scale of each member under fp16, else None.
    """

    def __init__(
        self,
        population: Population,
        config: TrainingConfig,
        seed: int,
        loss: MemberLoss | None = None,
    ) -> None:
        self.population = population
        self.seed = seed
        self._frozen = config.freeze_bn
        self._sam_rho = config.sam_rho
        self._part = config.batch_size // config.accumulate
        self._keep_frozen()  # before the probe looks at what is trained
        self.optimizer = RowOptimizer(population, config, seed)
        self.probe = LinearProbe(population, config, seed)
        self.eager = EagerLoss(population, config.amp)
        self.loss = loss or self.eager
        self.scalers = (
            [torch.amp.GradScaler(population.device.type) for _ in range(population.n)]
            if config.amp == "fp16"
            else [None] * population.n
        )

    def begin_epoch(self, epoch: int, *, resumed: bool = False) -> None:
        """Put the networks into the mode of an epoch, counted from 0, or of the rest of one."""
        self.probe.begin_epoch(epoch, resumed=resumed)
        self._keep_frozen()

    def _keep_frozen(self) -> None:
        for module in self.population.modules if self._frozen else ():
            freeze(module)

    def steps(self, streams: Sequence[Iterator[Batch]], clock: StepInfo, losses: Tensor) -> None:
        """One optimizer step of each member that has a stream, on the stream's next batch.

        Args:
            streams: batches of the members in rows 0, 1, ...
            clock: the step.
            losses: (n,) on the device, where the losses of these members are written.
        """
        for row, stream in enumerate(streams):
            losses[row] = self.member_step(row, next(stream), clock)

    def member_step(self, row: int, batch: Batch, clock: StepInfo) -> Tensor:
        """One optimizer step of the member in ``row``; its loss."""
        self.seed_forward(row, clock)
        loss = self.differentiate(row, batch)
        if self._sam_rho:
            self._differentiate_uphill(row, batch, clock)
        self.update(row, self.rule.rate(row, clock.lr))
        return loss

    @torch.no_grad()
    def _differentiate_uphill(self, row: int, batch: Batch, clock: StepInfo) -> None:
        """Replace the gradient g at the weights w by the one at w + rho g / ||g||_2.

        Sharpness-aware minimization (Foret et al. 2021, arXiv 2010.01412, Algorithm 1 with p = 2).
        Weights and BatchNorm statistics are those of before afterwards: only the pass at w counts
        in the running statistics. The network draws the same dropout in both passes.
        """
        population = self.population
        weights, gradient = population.weights[row], population.gradient_row(row)
        before = population.state(row).clone()
        # A loss scale cancels; a gradient of zero has no direction.
        weights.add_(gradient * (self._sam_rho / gradient.norm().clamp_min(1e-12)))
        self.seed_forward(row, clock)
        with torch.enable_grad():
            self.differentiate(row, batch)
        weights.copy_(before.weights)
        population.buffers[row].copy_(before.buffers)
        population.counters[row].copy_(before.counters)

    @property
    def rule(self) -> RowOptimizer | LinearProbe:
        """Whose update it is: the head's alone while probing."""
        return self.probe if self.probe.probing else self.optimizer

    def seed_forward(self, row: int, clock: StepInfo) -> None:
        """Seed what the member's network draws in this step."""
        member = LEADER if self.probe.probing else self.population.members[row]
        seed_device(self.population.device, derive(self.seed, "forward", member, clock.step))

    def differentiate(self, row: int, batch: Batch) -> Tensor:
        """Write the gradient of the member's loss into its gradient row; the loss."""
        compute, scaler = (self.eager if self.probe.probing else self.loss), self.scalers[row]
        losses: list[Tensor] = []
        for part in parts_of(batch, self._part):
            loss = compute(row, part)
            if part is not batch:  # its share of the mean over the batch
                loss = loss * (len(part.images) / len(batch.images))
            self.write_gradient(
                row, loss if scaler is None else scaler.scale(loss), add=bool(losses)
            )
            losses.append(loss.detach())
        return losses[0] if len(losses) == 1 else torch.stack(losses).sum()

    def write_gradient(self, row: int, loss: Tensor, *, add: bool) -> None:
        """Write a loss's gradient into the member's row, or add it to what stands there."""
        if not add:
            self.population.gradient_row(row).zero_()
        loss.backward()

    def update(self, row: int, rate: float | Tensor) -> None:
        """One update of the member's weights from its gradient row."""
        self.rule.step(row, rate, self.scalers[row])


def parts_of(batch: Batch, size: int) -> Sequence[Batch]:
    """A batch in nearly equal parts of at most ``size`` images, but no part of a single image.

    BatchNorm has no variance of one image, so that an odd batch in parts of two ends with three.

    Returns:
        The parts in the batch's order; the batch itself if it is one part.
    """
    images = len(batch.images)
    count = max(1, min(math.ceil(images / size), images // 2))
    if count == 1:
        return [batch]
    pairs = zip(batch.images.tensor_split(count), batch.targets.tensor_split(count), strict=True)
    return [Batch(*pair) for pair in pairs]


def seed_device(device: torch.device, seed: int) -> None:
    """Seed what dropout and stochastic depth draw from on ``device``.

    The same streams as ``torch.manual_seed``, which would visit the back ends of all accelerators
    and note a stack trace for each that is not in use: up to half a millisecond a call.
    """
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        index = torch.cuda.current_device() if device.index is None else device.index
        torch.cuda.default_generators[index].manual_seed(seed)
    elif device.type != "cpu":
        torch.manual_seed(seed)
