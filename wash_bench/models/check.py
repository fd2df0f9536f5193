"""Refuse before training what cannot be trained: one step and one evaluation on a spare network."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional

from wash_bench.core.layout import Layout, layout_of
from wash_bench.errors import UsageError, one_line

if TYPE_CHECKING:
    from torch import nn

# Shapes. B: images, C: channels, H = W: side of the images.

# What torch says when a feature map has shrunk to nothing.
_TOO_SMALL = (
    "output size is too small",
    "kernel size can't be greater than actual input size",
    "non-zero size",
    "non-empty",
    "zero elements",
    "padding size should be less than the corresponding input dimension",
    "must be at least one",
    "modulo by zero",
)
# How timm's networks word it that they are built for another size.
_MISMATCH = (
    "divisible by",
    "doesn't match model",
    "must be divisible",
    "multiple of",
    "window size",
)


def check_fit(
    build: Callable[[], nn.Module],
    *,
    name: str,
    classes: int,
    channels: int,
    size: int,
    batch_size: int,
) -> Layout:
    """Try a network on images of the given size, before anything is trained.

    One forward and backward pass in train mode on two images (one, if ``batch_size`` is one) and
    one forward pass in evaluation mode on one image, on the CPU. The network that ``build`` gives
    is spent on it; the global random generator is left as it was.

    Args:
        build: gives a fresh network, as ``lambda: build_model(...)``.
        name: the architecture's name, for the error line.
        classes: outputs that it must have.
        channels: channels of the images.
        size: side of the images in pixels.
        batch_size: images a training step.

    Returns:
        The network's layout, from which parameters and bytes are counted.

    Raises:
        UsageError: the network cannot be trained so; the line says why and what to change.
    """
    model = build()
    _check_types(model, name)
    images = torch.rand(
        min(2, batch_size), channels, size, size, generator=torch.Generator().manual_seed(0)
    )
    layout = layout_of(model)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # dropout and stochastic depth draw from the global generator
        try:
            scores = model.train()(images)
            _check_scores(scores, name, len(images), classes)
            labels = torch.arange(len(images)) % classes
            functional.cross_entropy(scores, labels).backward()
            with torch.no_grad():
                _check_scores(model.eval()(images[:1]), name, 1, classes)
        except UsageError:
            raise
        except Exception as error:  # whatever the network's own code runs into
            raise UsageError(_explain(error, model, name, size, batch_size)) from error
    return layout


def _check_types(model: nn.Module, name: str) -> None:
    for path, parameter in model.named_parameters():
        if parameter.dtype != torch.float32:
            raise UsageError(
                f"model {name!r} has parameters of type {str(parameter.dtype).split('.')[-1]} "
                f"({path}); only float32 weights are averaged: choose another --model"
            )


def _check_scores(scores: Any, name: str, images: int, classes: int) -> None:
    if not isinstance(scores, Tensor):
        raise UsageError(
            f"model {name!r} returns a {type(scores).__name__} instead of one tensor of class "
            "scores: choose another --model (or --model-arg)"
        )
    if scores.shape != (images, classes):
        raise UsageError(
            f"model {name!r} returns shape {tuple(scores.shape)} for {images} images and "
            f"{classes} classes, not {(images, classes)}: choose another --model (or --model-arg)"
        )
    if not scores.isfinite().all():
        raise UsageError(
            f"model {name!r} gives scores that are not finite before any training: "
            "choose another --model (or --model-arg)"
        )


def _explain(error: Exception, model: nn.Module, name: str, size: int, batch_size: int) -> str:
    """The error line for what a forward or backward pass raised."""
    reason = one_line(error)
    lower = reason.lower()
    start = f"model {name!r} cannot be trained on {size}x{size} images"
    if "more than 1 value per channel" in lower:
        return (
            f"{start} with --batch-size {batch_size}: BatchNorm needs more than one value a "
            "channel; use a larger --batch-size or --image-size"
        )
    if any(sign in lower for sign in _TOO_SMALL):
        return (
            f"{start}: smaller than the network's stride or patch ({reason}); use a larger "
            f"--image-size{_cifar_hint(model)} or another --model"
        )
    if any(sign in lower for sign in _MISMATCH):
        return (
            f"{start}: {reason}; use a fitting --image-size, another patch or window "
            "(--model-arg patch_size=...) or another --model"
        )
    return f"{start}: {reason}; use a larger --image-size{_cifar_hint(model)} or another --model"


def _cifar_hint(model: nn.Module) -> str:
    """Name the small-image stem where the network has one and is not built with it."""
    from timm.models.resnet import ResNet
    from timm.models.vgg import VGG

    kept_resnet = isinstance(model, ResNet) and not isinstance(model.maxpool, torch.nn.Identity)
    kept_vgg = isinstance(model, VGG) and not isinstance(model.pre_logits, torch.nn.Identity)
    return ", --stem cifar" if kept_resnet or kept_vgg else ""
