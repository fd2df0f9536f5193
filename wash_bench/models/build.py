"""Building one member's network: timm's architecture, from scratch, from a seed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch

from wash_bench.errors import UsageError, one_line
from wash_bench.models import residual  # noqa: F401 (registers our networks with timm)
from wash_bench.models.names import check_architecture, unknown_tag
from wash_bench.models.sources import build_from, is_external
from wash_bench.models.stems import STEMS, resolve_stem

if TYPE_CHECKING:
    from torch import nn

# What the benchmark decides itself, and by which option.
_RESERVED = {
    "num_classes": "the data set sets the number of classes",
    "in_chans": "the data set sets the number of channels",
    "pretrained": "networks are trained from scratch",
    "pretrained_cfg": "networks are trained from scratch",
    "pretrained_cfg_overlay": "networks are trained from scratch",
    "pretrained_strict": "networks are trained from scratch",
    "checkpoint_path": "networks are trained from scratch",
    "cache_dir": "networks are trained from scratch",
    "features_only": "a network must give class scores",
    "device": "use --device",
    "dtype": "weights are float32; use --amp for mixed precision",
}


def build_model(
    name: str,
    *,
    classes: int,
    channels: int,
    size: int,
    stem: str = "auto",
    model_args: Mapping[str, Any] | None = None,
    seed_value: int,
) -> nn.Module:
    """Build a network with fresh weights that depend on ``seed_value`` alone.

    Args:
        name: any architecture that timm knows, or one of ``models.sources``.
        classes: outputs of the network.
        channels: channels of the images.
        size: side of the square images in pixels. Networks that are built for one input size
            (vision transformers and the like) are built for this one.
        stem: ``keep`` (timm's network), ``cifar`` (the papers' form for small images) or
            ``auto`` (see :func:`wash_bench.models.stems.resolve_stem`).
        model_args: further arguments of ``timm.create_model``.
        seed_value: seed of the initial weights; the global generator is left as it was.

    Returns:
        The network in train mode, on the CPU.

    Raises:
        UsageError: unknown architecture, arguments that it does not take, or a stem it lacks.
    """
    name = check_architecture(name)
    external = is_external(name)
    if not external:
        _check_tag(name)
    model_args = dict(model_args or {})
    for argument in model_args:
        if argument in _RESERVED:
            raise UsageError(f"--model-arg {argument} cannot be set: {_RESERVED[argument]}")
    create = STEMS.get(resolve_stem(stem, name, size))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_value)
        try:
            if external:
                model = build_from(name, classes, channels, size, model_args)
            elif create:
                model = create(name, classes, channels, model_args)
            else:
                model = _create(name, classes, channels, size, model_args)
        except UsageError:
            raise
        except MemoryError:
            raise UsageError(
                f"model {name!r} does not fit into memory; use a smaller --model"
            ) from None
        except Exception as error:  # timm's constructors raise whatever they run into
            raise UsageError(_explain(name, size, model_args, error)) from error
    return model.train()


def _check_tag(name: str) -> None:
    from timm.models import get_pretrained_cfg

    architecture, dot, tag = name.partition(".")
    if dot:
        try:
            get_pretrained_cfg(name)
        except RuntimeError:  # what timm raises for a tag that the architecture does not have
            raise UsageError(unknown_tag(architecture, tag, set())) from None


def _create(
    name: str, classes: int, channels: int, size: int, model_args: dict[str, Any]
) -> nn.Module:
    import timm
    from timm.models import get_pretrained_cfg

    config = get_pretrained_cfg(name)
    # timm's own mark for constructors that take img_size and are bound to it.
    if config is not None and config.fixed_input_size:
        model_args = {"img_size": size} | model_args
    return timm.create_model(
        name, pretrained=False, num_classes=classes, in_chans=channels, **model_args
    )


def _explain(name: str, size: int, model_args: dict[str, Any], error: Exception) -> str:
    """The error line for what a constructor raised."""
    reason = one_line(error)
    unknown = reason.partition("unexpected keyword argument ")[2].split(".")[0]
    if unknown:
        option = "--drop-path" if "drop_path_rate" in unknown else "--model-arg"
        return f"model {name!r} takes no argument {unknown}; see {option}"
    given = f" with --model-arg {', '.join(f'{k}={v}' for k, v in model_args.items())}"
    return (
        f"model {name!r} cannot be built for {size}x{size} images"
        f"{given if model_args else ''}: {reason}; change --model-arg, --image-size or --model"
    )
