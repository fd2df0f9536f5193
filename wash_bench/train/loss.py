"""The loss of a member on a batch: by its own network, or by one compiled for all members."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from wash_bench.core.precision import autocast
from wash_bench.data.source import Batch
from wash_bench.errors import CellFailure, one_line
from wash_bench.models.batchnorm import freeze

if TYPE_CHECKING:
    from wash_bench.core.population import Population

# How far apart, relative to its norm, float32 rounding may bring what two kernels compute.
APART = 0.02


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
    loss: they would be compiled anew. On the first batch both are computed and compared, since a
    compiler's fault may not be seen in the loss: in torch 2.11 on CUDA, pictures too small for
    another halving gave right losses, and gradients and running statistics that were not.
    ``frozen`` keeps BatchNorm in evaluation mode.
    """

    def __init__(
        self, population: Population, amp: str, batch_size: int, *, frozen: bool = False
    ) -> None:
        self.eager = EagerLoss(population, amp)
        self.batch_size = batch_size
        self._checked = False
        self._compiled = _compile(population, amp, frozen)
        self._tensors = [
            dict(module.named_parameters()) | dict(module.named_buffers())
            for module in population.modules
        ]

    def __call__(self, row: int, batch: Batch) -> Tensor:
        if len(batch.images) != self.batch_size:
            return self.eager(row, batch)
        if not self._checked:
            self._check(row, batch)
            self._checked = True
        return self._call(row, batch)

    def _call(self, row: int, batch: Batch) -> Tensor:
        from torch._dynamo.exc import TorchDynamoException  # slow to import

        try:
            return self._compiled(self._tensors[row], batch.images, batch.targets)
        except TorchDynamoException as error:
            raise CellFailure(
                f"torch.compile cannot compile the step ({one_line(error)}); leave --compile out"
            ) from error

    def _check(self, row: int, batch: Batch) -> None:
        """A CellFailure unless the compiled network does to this batch what the network does."""
        population = self.eager.population
        with _exact():
            exact = self._effect(EagerLoss(population, "off"), row, batch)
        eager, compiled = self._effect(self.eager, row, batch), self._effect(self._call, row, batch)
        apart = {name: _apart(value, exact[name]) for name, value in compiled.items()}
        # What 16 bits or TF32 round differs: as far as the network itself is from float32.
        limits = {name: APART + 2 * _apart(value, exact[name]) for name, value in eager.items()}
        if not all(apart[name] <= limits[name] for name in apart):  # NaN is apart too
            told = ", ".join(f"{name} {value:.2g}" for name, value in apart.items())
            raise CellFailure(
                "torch.compile computes something else than the network on this device "
                f"(away from float32: {told}); leave --compile out"
            )

    def _effect(self, loss: MemberLoss, row: int, batch: Batch) -> dict[str, Tensor]:
        """Loss, gradient and float buffers after a forward pass, which is undone."""
        tensors = self._tensors[row].values()
        weights = [tensor for tensor in tensors if tensor.requires_grad]
        buffers = [tensor for tensor in tensors if not isinstance(tensor, nn.Parameter)]
        before = [buffer.clone() for buffer in buffers]
        device = self.eager.population.device
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            value = loss(row, batch)
            gradient = torch.autograd.grad(value, weights, materialize_grads=True)
        effect = {
            "loss": value.detach(),
            "gradient": torch.cat([part.flatten() for part in gradient]),
            "buffers": torch.cat(
                [b.flatten() for b in buffers if b.is_floating_point()] or [value.detach()[None]]
            ),
        }
        for buffer, old in zip(buffers, before, strict=True):
            buffer.copy_(old)
        return effect


def _apart(value: Tensor, exact: Tensor) -> float:
    """The norm of the difference, relative to the exact value's."""
    return (value - exact).norm().item() / (exact.norm().item() or 1.0)


@contextmanager
def _exact() -> Iterator[None]:
    """Convolutions in float32 on devices that would take TF32."""
    backend = torch.backends.cudnn
    before, backend.allow_tf32 = backend.allow_tf32, False
    try:
        yield
    finally:
        backend.allow_tf32 = before


def _compile(population: Population, amp: str, frozen: bool) -> Callable[..., Tensor]:
    shell, device = population.shell().train(), population.device
    if frozen:
        freeze(shell)

    def loss(tensors: dict[str, Tensor], images: Tensor, targets: Tensor) -> Tensor:
        with autocast(device, amp):
            logits = functional_call(shell, tensors, (images,))
        return F.cross_entropy(logits.float(), targets)

    # Dropout and stochastic depth draw as they do without a compiler.
    options: dict[str, Any] = {"fallback_random": True}
    return torch.compile(loss, dynamic=False, options=options)
