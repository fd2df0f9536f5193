"""The members' optimizers, of ``OPTIMIZERS``: each over a row as if it were one parameter."""

from __future__ import annotations

import contextlib
import pkgutil
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from wash_bench.config.optimizers import OPTIMIZERS
from wash_bench.train.member_hparams import member_hyperparameters
from wash_bench.train.param_spans import ParamSpan, spans_of

if TYPE_CHECKING:
    from wash_bench.config import TrainingConfig
    from wash_bench.core.population import Population


def optimizer_slots(config: TrainingConfig) -> tuple[str, ...]:
    """The names of the state tensors of the weights' shape that the optimizer keeps."""
    slots = OPTIMIZERS[config.optimizer].slots.items()
    return tuple(slot for slot, needed in slots if not needed or getattr(config, needed))


class RowOptimizer:
    """One optimizer a member; its state lies in the population's (N, D) tensors.

    Update rules are elementwise, so one step on the row equals the steps on its tensors.
    Weight decay therefore falls on all parameters, BatchNorm's and biases included, as in PAPA.
    Where the configuration lets hyperparameters vary, each member has its own weight decay and
    multiplies the schedule's learning rate by its own rate over the configuration's. ``runs_of``
    says which coordinates are trained, and at which share of that rate.
    """

    def __init__(self, population: Population, config: TrainingConfig, seed: int = 0) -> None:
        drawn = [member_hyperparameters(config.vary, seed, m) for m in population.members]
        self._rates = [own.get("lr", config.lr) / config.lr for own in drawn]
        runs = spans_of(population, config)
        self._clip_norm = config.clip_grad
        self._optimizers = [
            row_optimizer(
                population, row, config, own.get("weight_decay", config.weight_decay), runs
            )
            for row, own in enumerate(drawn)
        ]

    def rate(self, row: int, lr: float) -> float:
        """The learning rate of a member where the schedule's is ``lr``."""
        return lr * self._rates[row]

    def step(
        self, row: int, rate: float | Tensor, scaler: torch.amp.GradScaler | None = None
    ) -> None:
        """One update of a member, at its own learning rate, from its gradient row.

        ``scaler`` undoes fp16's loss scale. A ``rate`` that is a tensor on the device can be
        captured in a CUDA graph and changed afterwards.
        """
        take_step(self._optimizers[row], rate, scaler, self._clip_norm)

    @contextlib.contextmanager
    def captured(self) -> Iterator[None]:
        """While a CUDA graph is captured, which some of torch's optimizers must be told."""
        groups = [group for own in self._optimizers for group in own.param_groups]
        groups = [group for group in groups if "capturable" in group]
        for group in groups:
            group["capturable"] = True
        try:
            yield
        finally:
            for group in groups:
                group["capturable"] = False


def row_optimizer(
    population: Population,
    row: int,
    config: TrainingConfig,
    weight_decay: float,
    runs: Sequence[ParamSpan],
) -> torch.optim.Optimizer:
    """The configured optimizer over some coordinates of a row; its state are views of the rows'.

    Args:
        population: the rows.
        row: which of them.
        config: its optimizer, and what that takes of the settings.
        weight_decay: the member's.
        runs: the coordinates; an optimizer that counts its steps counts those of the first run in
            the population.

    Returns:
        The optimizer, with one parameter a run and a group for each factor of the learning rate,
        its ``lr_scale``.
    """
    rule = OPTIMIZERS[config.optimizer]
    pieces = [nn.Parameter(population.weights[row][run.first : run.stop]) for run in runs]
    scales = dict.fromkeys(run.scale for run in runs)
    groups = [
        {"params": [p for p, run in zip(pieces, runs, strict=True) if run.scale == scale]}
        | {"lr_scale": scale}
        for scale in scales
    ]
    options = {"lr": config.lr, "weight_decay": weight_decay, **rule.arguments}
    options |= {name: getattr(config, name) for name in rule.settings}
    optimizer: torch.optim.Optimizer = pkgutil.resolve_name(rule.target)(groups, **options)
    steps = population.optimizer_steps[row]
    for index, (piece, run) in enumerate(zip(pieces, runs, strict=True)):
        if rule.counts:
            optimizer.state[piece]["step"] = steps if index == 0 else steps.clone()
        piece.grad = population.gradient_row(row)[run.first : run.stop]
        for slot, rows in population.optimizer_state.items():
            optimizer.state[piece][slot] = rows[row][run.first : run.stop]
    return optimizer


def take_step(
    optimizer: torch.optim.Optimizer,
    lr: float | Tensor,
    scaler: torch.amp.GradScaler | None,
    clip_norm: float = 0.0,
) -> None:
    """One step at a learning rate, under a loss scale or not.

    Args:
        optimizer: of ``row_optimizer``.
        lr: the rate of the groups whose factor is 1.
        scaler: the loss scale.
        clip_norm: the greatest L2 norm of the gradient, the loss scale undone; 0 for any.
    """
    for group in optimizer.param_groups:
        group["lr"] = lr if group["lr_scale"] == 1 else lr * group["lr_scale"]
    # The population counts the steps of the first run, and resuming or a method may change them.
    counts = [state["step"] for state in optimizer.state.values() if "step" in state]
    if counts[1:]:
        torch._foreach_copy_(counts[1:], counts[:1] * len(counts[1:]))  # pyright: ignore[reportPrivateImportUsage]
    if clip_norm:
        if scaler is not None:
            scaler.unscale_(optimizer)
        pieces = [piece for group in optimizer.param_groups for piece in group["params"]]
        nn.utils.clip_grad_norm_(pieces, clip_norm)
    if scaler is None:
        optimizer.step()
    else:
        scaler.step(optimizer)
        scaler.update()
