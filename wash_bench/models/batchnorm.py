"""The BatchNorm layers of a network: finding them, and keeping them as they are."""

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm


def batchnorms(module: nn.Module) -> list[_BatchNorm]:
    """The layers that keep running statistics."""
    return [
        layer
        for layer in module.modules()
        if isinstance(layer, _BatchNorm) and layer.track_running_stats
    ]


def batchnorm_parameters(module: nn.Module) -> list[str]:
    """The names, within the network, of the scales and shifts of ``batchnorms``."""
    own = {id(p) for layer in batchnorms(module) for p in layer.parameters()}
    return [name for name, parameter in module.named_parameters() if id(parameter) in own]


def freeze(module: nn.Module) -> None:
    """Let the layers normalize by their running statistics, and give them no gradients.

    To be called again after ``module.train()``, which puts the layers back into train mode.
    """
    for layer in batchnorms(module):
        layer.eval().requires_grad_(False)
