"""Linear probing before fine-tuning: at first only the classifier is trained, once for all.

LP-FT (Kumar et al. 2022, arXiv 2202.10054): fit the new head on the checkpoint's features, then
fine-tune the whole network from there. The members of DiWA (Rame et al. 2022, arXiv 2205.09739)
share one probed head, hence here all members take the same steps while they probe.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from wash_bench.models.head import head_modules, head_parameters
from wash_bench.train.member_hparams import member_hyperparameters
from wash_bench.train.optim import row_optimizer, take_step
from wash_bench.train.param_spans import spans_of

if TYPE_CHECKING:
    from wash_bench.config import TrainingConfig
    from wash_bench.core.population import Population

LEADER = 0  # whose data, augmentation, hyperparameters and seeds everybody follows while probing


class LinearProbe:
    """The first epochs of a training, in which the body stands still.

    The body's weights get neither gradient nor weight decay, its momentum stays zero, and it runs
    in evaluation mode, so that its BatchNorm statistics stay the checkpoint's and nothing is
    dropped. When probing ends, the optimizer starts afresh, as it would in a second training.

    Args:
        population: this process's members.
        config: ``linear_probe`` epochs (0: none), and the optimizer.
        seed: the run's seed.
    """

    def __init__(self, population: Population, config: TrainingConfig, seed: int) -> None:
        self.population = population
        self.epochs = config.linear_probe
        self.probing = False
        self._body: list[nn.Parameter] = []
        if not self.epochs:
            return
        leader = member_hyperparameters(config.vary, seed, LEADER)
        self._rate = leader.get("lr", config.lr) / config.lr
        names = head_parameters(population.modules[0])
        runs = spans_of(population, config, names)
        self._clip_norm = config.clip_grad
        self._body = [
            parameter
            for module in population.modules
            for name, parameter in module.named_parameters()
            if name not in names and parameter.requires_grad
        ]
        decay = leader.get("weight_decay", config.weight_decay)
        self._optimizers = [
            row_optimizer(population, row, config, decay, runs) for row in range(population.n)
        ]

    def begin_epoch(self, epoch: int, *, resumed: bool = False) -> None:
        """Put the networks into the mode of an epoch, counted from 0.

        An epoch that is ``resumed`` in its middle keeps the optimizer's state.
        """
        population = self.population
        self.probing = epoch < self.epochs
        for parameter in self._body:
            parameter.requires_grad_(not self.probing)
        for module in population.modules:
            module.train(not self.probing)
            for head in head_modules(module) if self.probing else ():
                head.train()
        if self.epochs and epoch == self.epochs and not resumed:
            for rows in population.optimizer_state.values():
                rows.zero_()
            population.optimizer_steps.zero_()

    def rate(self, row: int, lr: float) -> float:
        """The learning rate of a member where the schedule's is ``lr``: the leader's."""
        return lr * self._rate

    def step(
        self, row: int, rate: float | Tensor, scaler: torch.amp.GradScaler | None = None
    ) -> None:
        """One update of a member's head from its gradient row."""
        take_step(self._optimizers[row], rate, scaler, self._clip_norm)
