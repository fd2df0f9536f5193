"""Re-estimation of BatchNorm statistics on augmented training data."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from wash_bench.core.precision import autocast
from wash_bench.models.batchnorm import batchnorms


@torch.no_grad()
def reestimate_(module: nn.Module, batches: Iterable[Tensor], amp: str = "off") -> None:
    """Reset the running statistics and make them the mean over the batches, weighted by size.

    One pass in train mode on augmented images, as REPAIR's authors do after averaging
    (KellerJordan/REPAIR, Train-and-Permute notebook). A batch of b images after n others has the
    weight b / (n + b), as in SWA's code (timgaripov/swa, utils.py:107-135), so that a small last
    batch counts by its images. Only BatchNorm is in train mode: dropout stays off.
    """
    layers = batchnorms(module)
    momenta = [layer.momentum for layer in layers]
    module.eval()
    for layer in layers:
        layer.reset_running_stats()
        layer.train()
    seen = 0
    try:
        for images in batches:
            seen += len(images)
            for layer in layers:
                layer.momentum = len(images) / seen
            with autocast(images.device, amp):
                module(images)
    finally:
        for layer, momentum in zip(layers, momenta, strict=True):
            layer.momentum = momentum
        module.eval()
