"""The loss of a member on a batch: by its own network, or by one compiled for all members."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor
from torch.func import functional_call
from torch.nn import functional as F

from wash_bench.core.precision import autocast
from wash_bench.data.source import Batch
from wash_bench.errors import CellFailure
from wash_bench.models.build import one_line

if TYPE_CHECKING:
    from wash_bench.core.population import Population


class MemberLoss(Protocol):
    """The mean cross-entropy () of the member in ``row``, with its graph."""

    def __call__(self, row: int, batch: Batch) -> Tensor: ...


class EagerLoss:
    """By the members' own networks."""

    def __init__(self, population: Population, amp: str) -> None:
        self.population = population
        self.amp = amp

    def __call__(self, row: int, batch: Batch) -> Tensor:
        with autocast(self.population.device, self.amp):
            logits = self.population.modules[row](batch.images)
        return F.cross_entropy(logits.float(), batch.targets)


class CompiledLoss:
    """By one function of weights, buffers and batch, so that one compilation serves all members.

    Batches of another size than ``batch_size``, as the last of an epoch, are left to the eager
    loss: they would be compiled anew.
    """

    def __init__(self, population: Population, amp: str, batch_size: int) -> None:
        self.eager = EagerLoss(population, amp)
        self.batch_size = batch_size
        self._compiled = _compile(population, amp)
        self._tensors = [
            dict(module.named_parameters()) | dict(module.named_buffers())
            for module in population.modules
        ]

    def __call__(self, row: int, batch: Batch) -> Tensor:
        if len(batch.images) != self.batch_size:
            return self.eager(row, batch)
        from torch._dynamo.exc import TorchDynamoException  # slow to import

        try:
            return self._compiled(self._tensors[row], batch.images, batch.targets)
        except TorchDynamoException as error:
            raise CellFailure(
                f"torch.compile cannot compile the step ({one_line(error)}); leave --compile out"
            ) from error


def _compile(population: Population, amp: str) -> Callable[..., Tensor]:
    shell, device = population.shell().train(), population.device

    def loss(tensors: dict[str, Tensor], images: Tensor, targets: Tensor) -> Tensor:
        with autocast(device, amp):
            logits = functional_call(shell, tensors, (images,))
        return F.cross_entropy(logits.float(), targets)

    # Dropout and stochastic depth draw as they do without a compiler.
    options: dict[str, Any] = {"fallback_random": True}
    return torch.compile(loss, dynamic=False, options=options)
