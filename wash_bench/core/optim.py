"""The members' optimizers: torch's own, each over a whole row as if it were one parameter."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

if TYPE_CHECKING:
    from wash_bench.config import TrainingConfig
    from wash_bench.core.population import Population


def optimizer_slots(config: TrainingConfig) -> tuple[str, ...]:
    """The names of the state tensors of the weights' shape that the optimizer keeps."""
    if config.optimizer == "adamw":
        return ("exp_avg", "exp_avg_sq")
    return ("momentum_buffer",) if config.momentum else ()


class RowOptimizer:
    """One fused torch optimizer a member; its state lies in the population's (N, D) tensors.

    Update rules are elementwise, so one step on the row equals the steps on its tensors.
    Weight decay therefore falls on all parameters, BatchNorm's and biases included, as in PAPA.
    """

    def __init__(self, population: Population, config: TrainingConfig) -> None:
        self._optimizers = [
            self._for_member(population, member, config) for member in range(population.n)
        ]

    @staticmethod
    def _for_member(
        population: Population, member: int, config: TrainingConfig
    ) -> torch.optim.Optimizer:
        row = nn.Parameter(population.weights[member])
        row.grad = population.gradient
        optimizer: torch.optim.Optimizer
        if config.optimizer == "adamw":
            optimizer = torch.optim.AdamW(
                [row], lr=config.lr, weight_decay=config.weight_decay, fused=True
            )
            optimizer.state[row]["step"] = population.optimizer_steps[member]
        else:
            optimizer = torch.optim.SGD(
                [row],
                lr=config.lr,
                momentum=config.momentum,
                weight_decay=config.weight_decay,
                fused=True,
            )
        for slot, rows in population.optimizer_state.items():
            optimizer.state[row][slot] = rows[member]
        return optimizer

    def step(self, member: int, lr: float, scaler: torch.amp.GradScaler | None = None) -> None:
        """One update of a member from the gradient row; ``scaler`` undoes fp16's loss scale."""
        optimizer = self._optimizers[member]
        optimizer.param_groups[0]["lr"] = lr
        if scaler is None:
            optimizer.step()
        else:
            scaler.step(optimizer)
            scaler.update()
