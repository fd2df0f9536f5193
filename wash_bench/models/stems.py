"""The small-image forms of ResNet and VGG that the weight-averaging papers train.

``keep`` is timm's network as it is. ``cifar`` is the network of PAPA's code (Jolicoeur-Martineau
et al., arXiv 2304.03094), which WASH and the others follow: ResNet begins with a 3x3 convolution
of stride 1 and no pooling; VGG has BatchNorm and one linear layer behind the convolutions
instead of the hidden fully connected ones. Both start from PyTorch's default initialization,
without zeros in the last BatchNorm of a block.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from wash_bench.errors import UsageError
from wash_bench.models.names import OWN_NETWORKS
from wash_bench.models.sources import is_external

if TYPE_CHECKING:
    from timm.models.resnet import ResNet
    from torch import Tensor, nn

SMALL_IMAGE = 64  # pixels; up to this side, 'auto' takes the small-image form

_PLAIN_RESNET = re.compile(r"resnet\d+$")
_VGG = re.compile(r"vgg\d+(_bn)?$")


def resolve_stem(stem: str, name: str, size: int) -> str:
    """What ``auto`` means for an architecture and an image side in pixels."""
    # It takes the small-image form of the plain ResNets (resnet18, resnet50, ...) and the VGGs.
    # Variants that are defined by their stem (resnet18d, ...) and all others stay as timm has them.
    if stem != "auto":
        return stem
    architecture = name.partition(".")[0]
    if architecture in OWN_NETWORKS or is_external(name):  # the user's choice
        return "keep"
    plain = _PLAIN_RESNET.match(architecture) or _VGG.match(architecture)
    return "cifar" if plain and size <= SMALL_IMAGE else "keep"


def create_cifar(name: str, classes: int, channels: int, model_args: dict[str, Any]) -> nn.Module:
    """Build the small-image form of a ResNet or VGG, PyTorch's default initialization.

    Args:
        name: an architecture that timm knows; ``vgg16`` means ``vgg16_bn``.
        classes: outputs.
        channels: input channels.
        model_args: further arguments of the network's constructor.

    Returns:
        The network, float32 on the CPU. ``resnet18`` with 3 channels has 11,173,962 parameters
        for 10 classes and 11,220,132 for 100; ``vgg16`` 14,728,266 and 14,774,436.

    Raises:
        UsageError: the architecture has no such form.
    """
    import timm
    from timm.models.resnet import ResNet

    architecture = name.partition(".")[0]
    if _VGG.match(architecture):
        if not architecture.endswith("_bn"):
            name = f"{architecture}_bn"  # the tag names weights of the form without BatchNorm
        model = _vgg(name, classes, channels, model_args)
    else:
        # Only ResNet's own module makes ResNet; asking first spares building a big network.
        if is_external(name) or not _may_be_resnet(architecture):
            raise UsageError(_no_such_form(name))
        model_args = {"zero_init_last": False} | model_args
        model = timm.create_model(
            name, pretrained=False, num_classes=classes, in_chans=channels, **model_args
        )
        if not isinstance(model, ResNet):
            raise UsageError(_no_such_form(name))
        _open_resnet(model, channels)
    reset_to_defaults(model)
    return model


STEMS: dict[str, Callable[[str, int, int, dict[str, Any]], nn.Module]] = {"cifar": create_cifar}
"""Who builds a stem, by its name; ``keep`` is timm's own business."""


def _no_such_form(name: str) -> str:
    return (
        f"model {name!r} has no stem 'cifar': only ResNets (resnet18, resnet50, ...) and VGGs "
        "(vgg11, vgg16, ...) have one; use --stem keep"
    )


def _may_be_resnet(architecture: str) -> bool:
    """Whether timm makes the architecture in a module whose networks are ``ResNet`` objects."""
    import sys

    from timm.models import model_entrypoint
    from timm.models.resnet import ResNet

    module = sys.modules[model_entrypoint(architecture).__module__]
    return any(value is ResNet for value in vars(module).values())


def _vgg(name: str, classes: int, channels: int, model_args: dict[str, Any]) -> nn.Module:
    """A VGG whose head is one linear layer on the 512 pooled features."""
    import timm
    import torch
    from timm.models.vgg import VGG
    from torch import nn

    # timm's hidden head has 120 million parameters: built without memory, then dropped.
    with torch.device("meta"):
        model = timm.create_model(
            name, pretrained=False, num_classes=classes, in_chans=channels, **model_args
        )
        assert isinstance(model, VGG)
        model.pre_logits = nn.Identity()
        model.head.fc = nn.Linear(model.num_features, classes)
    return model.to_empty(device="cpu")


def _open_resnet(model: ResNet, channels: int) -> None:
    """Give a timm ResNet a stem that keeps the resolution."""
    from torch import nn

    stem = [layer for layer in model.conv1.modules() if isinstance(layer, nn.Conv2d)]
    width = stem[-1].out_channels
    model.conv1 = nn.Conv2d(channels, width, 3, stride=1, padding=1, bias=False)
    model.maxpool = nn.Identity()


def adapt_stem(tensors: Mapping[str, Tensor], model: nn.Module) -> tuple[dict[str, Tensor], str]:
    """Fit the first convolution of a checkpoint to the images' channels, as timm does.

    ``timm.models.adapt_input_conv``: grey images get the sum over the three colours, so that a grey
    image gives what its copy in three equal channels gave.

    Args:
        tensors: the checkpoint's, by name.
        model: the network that they are for.

    Returns:
        The tensors, and a note on the change, or "".
    """
    from timm.models import adapt_input_conv

    config = getattr(model, "pretrained_cfg", None) or {}
    first = config.get("first_conv") or next(
        (name.removesuffix(".weight") for name, p in model.named_parameters() if p.ndim == 4), ""
    )
    mine = model.state_dict()
    changed = {}
    for path in [first] if isinstance(first, str) else first:
        key = f"{path}.weight"
        if key not in mine or key not in tensors or tensors[key].ndim != 4:
            continue
        ours, theirs = mine[key].shape, tensors[key].shape
        if ours[1] != theirs[1] == 3 and (ours[0], *ours[2:]) == (theirs[0], *theirs[2:]):
            changed[key] = adapt_input_conv(ours[1], tensors[key])
    if not changed:
        return dict(tensors), ""
    ((key, weight), *_) = changed.items()
    how = "the sum over 3 colours" if weight.shape[1] == 1 else "3 colours repeated"
    return {**tensors, **changed}, f"{key} adapted to {weight.shape[1]} channel(s), {how}"


def reset_to_defaults(model: nn.Module) -> None:
    """Initialize every layer by its own ``reset_parameters``; a UsageError if one has none."""
    for path, layer in model.named_modules():
        reset = getattr(layer, "reset_parameters", None)
        if callable(reset):
            reset()
        elif next(layer.parameters(recurse=False), None) is not None:
            raise UsageError(
                f"layer {path!r} ({type(layer).__name__}) has no default initialization, "
                "hence no stem 'cifar'; use --stem keep"
            )
