"""Re-estimation of BatchNorm statistics on augmented training data."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from wash_bench.train.loop import autocast


def batchnorms(module: nn.Module) -> list[nn.Module]:
    """The layers that keep running statistics."""
    return [
        layer
        for layer in module.modules()
        if isinstance(layer, _BatchNorm) and layer.track_running_stats
    ]


@torch.no_grad()
def reestimate_(module: nn.Module, batches: Iterable[Tensor], amp: str = "off") -> None:
    """Reset the running statistics and make them the plain mean over the batches.

    One pass in train mode with momentum None, on augmented images, as REPAIR's authors do after
    averaging (KellerJordan/REPAIR, Train-and-Permute notebook). Only BatchNorm is in train mode:
    dropout stays off.
    """
    layers = batchnorms(module)
    momenta = [layer.momentum for layer in layers]
    module.eval()
    for layer in layers:
        layer.reset_running_stats()
        layer.momentum = None  # cumulative mean
        layer.train()
    try:
        for images in batches:
            with autocast(images.device, amp):
                module(images)
    finally:
        for layer, momentum in zip(layers, momenta, strict=True):
            layer.momentum = momentum
        module.eval()
