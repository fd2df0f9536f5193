"""Which part of a network is its classifier."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn


def head_modules(model: nn.Module) -> list[nn.Module]:
    """The modules with parameters that turn features into scores: one, or two if distilled."""
    # timm's networks name them; of others it is the last linear layer.
    from torch import nn

    if callable(get := getattr(model, "get_classifier", None)):
        found = get()
    else:
        found = [module for module in model.modules() if isinstance(module, nn.Linear)][-1:]
    modules = found if isinstance(found, tuple | list | nn.ModuleList) else [found]
    return [
        module
        for module in modules
        if isinstance(module, nn.Module)
        and module is not model
        and next(module.parameters(), None) is not None
    ]


def head_parameters(model: nn.Module) -> list[str]:
    """The names of the head's parameters within the network."""
    own = {id(p) for module in head_modules(model) for p in module.parameters()}
    return [name for name, parameter in model.named_parameters() if id(parameter) in own]
