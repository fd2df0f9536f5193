"""Dead parameters: those that no image of the training's size gives a gradient.

On a 1x1 feature map only the centre of a 3x3 kernel ever meets a pixel, and what an architecture
does not use at all meets none: such parameters keep their initial values (but for weight decay),
yet count in parameters, bytes and distances.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

BATCHES = 4  # at most: the first is enough unless something stays without a gradient
SMALL = 64  # pixels, up to which batches are larger, which costs little there
LARGE = 10_000_000  # parameters, from which batches are small

_RELU = {F.relu, F.relu_, torch.relu, torch.relu_, Tensor.relu, Tensor.relu_}
_RELU |= {F.relu6, F.hardtanh, F.hardtanh_, F.hardswish, F.hardsigmoid}


class _Slopes(TorchFunctionMode):
    """Replace activations that have flat parts, so that no unit is dead by its weights."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if func in _RELU:
            return F.leaky_relu(args[0] if args else kwargs["input"], 0.5)
        return func(*args, **(kwargs or {}))


@dataclass(frozen=True)
class DeadParameters:
    """The parameters of a network that receive no gradient.

    Attributes:
        mask: (D,) bool, by coordinate of a population's row.
        unused: how many of them are frozen or unused by the architecture, at any image size.
    """

    mask: Tensor
    unused: int

    @cached_property
    def count(self) -> int:
        """Number of dead parameters."""
        return int(self.mask.sum())

    def describe(self, size: int) -> str:
        """Return a sentence with the remedy, for images of ``size`` pixels; "" if none is dead."""
        if not self.count:
            return ""
        share = 100 * self.count / len(self.mask)
        always = f" ({self.unused:,} of them at any size)" if self.unused else ""
        remedy = (
            "take larger images (--image-size), a smaller stem (--stem cifar) or another --model"
        )
        if self.unused == self.count:
            remedy = "another --model uses all of them"
        return (
            f"{self.count:,} of {len(self.mask):,} parameters ({share:.2g} %) receive no gradient"
            f" at this image size, {size} px{always}; they count in parameters, bytes and"
            f" distances: {remedy}"
        )


def dead_parameters(
    network: nn.Module, channels: int, size: int, channels_last: bool = True
) -> DeadParameters:
    """Find the parameters whose gradient is exactly zero for every random batch.

    Zero-initialized tensors, flat parts of activations and dropout do not count as dead: constants
    are perturbed, ReLUs leak, and nothing is dropped. The global random generator is left alone.

    Args:
        network: the network, on the CPU, which is spent on it.
        channels: channels of the images.
        size: side of the images in pixels.
        channels_last: whether a population stores 4-D weights as (out, height, width, in).

    Returns:
        The parameters, in the order of a population's row.
    """
    parameters = list(network.parameters())
    unused = [True] * len(parameters)
    live = [torch.zeros_like(p, dtype=torch.bool) for p in parameters]
    for layer in network.train().modules():
        if "drop" in type(layer).__name__.lower():  # Dropout, DropPath, StochasticDepth
            layer.eval()
    large = sum(parameter.numel() for parameter in parameters) > LARGE
    images, before = 8 if size <= SMALL and not large else 4, -1
    with torch.random.fork_rng(devices=[]), torch.enable_grad():
        torch.manual_seed(0)
        _perturb_constants(parameters)
        for _ in range(BATCHES):
            with _Slopes():
                scores = network(torch.randn(images, channels, size, size))
                network.zero_grad(set_to_none=True)
                (scores * torch.randn_like(scores)).sum().backward()
            for i, parameter in enumerate(parameters):
                if parameter.grad is not None:
                    unused[i] = False
                    live[i] |= parameter.grad != 0
            dead = sum(int((~each).sum()) for each in live)
            if dead in (0, before):
                break
            before = dead
    rows = [_as_row(each, channels_last) for each in live]
    mask = ~torch.cat(rows) if rows else torch.zeros(0, dtype=torch.bool)
    never = sum(p.numel() for p, is_unused in zip(parameters, unused, strict=True) if is_unused)
    return DeadParameters(mask, never)


@torch.no_grad()
def _perturb_constants(parameters: list[nn.Parameter]) -> None:
    for parameter in parameters:
        if parameter.numel() and parameter.min() == parameter.max():
            parameter.add_(torch.randn_like(parameter), alpha=0.1)


def _as_row(tensor: Tensor, channels_last: bool) -> Tensor:
    if channels_last and tensor.ndim == 4:
        tensor = tensor.permute(0, 2, 3, 1)
    return tensor.flatten()
