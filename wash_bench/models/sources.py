"""Networks that timm does not register: torchvision's, transformers', and those of a file.

``torchvision:NAME``, ``transformers:PATH_OR_ID`` (for image classification) and ``FILE.py:build``,
a function ``build(num_classes, in_chans, image_size, **model_args) -> nn.Module``.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wash_bench.errors import UsageError, nearest
from wash_bench.files import digest_of, read_json
from wash_bench.python_file import digest_in_file, function_in_file, is_in_file, read_source

if TYPE_CHECKING:
    from torch import nn

TORCHVISION, TRANSFORMERS = "torchvision:", "transformers:"
WHAT = "network file"
_NO_FORM = "write torchvision:NAME, transformers:PATH_OR_ID or FILE.py:FUNCTION"


def is_external(model: str) -> bool:
    """Whether a model is none of timm's registry, as ``torchvision:resnet18``."""
    return ":" in model


def check_source(model: str) -> None:
    """Refuse, as a UsageError and without torch, a model that is not there."""
    if model.removeprefix(TORCHVISION) == "" or model.removeprefix(TRANSFORMERS) == "":
        raise UsageError(f"model {model!r} lacks its name: {_NO_FORM}")
    if is_in_file(model):
        read_source(Path(model.rpartition(":")[0]).expanduser(), WHAT)
    elif not model.startswith((TORCHVISION, TRANSFORMERS)):
        raise UsageError(f"unknown model {model!r}: {_NO_FORM}")


def identity_of(model: str) -> str:
    """Return what identifies a model wherever its files lie."""
    if is_in_file(model):
        return digest_in_file(model, WHAT)
    if (config := Path(model.removeprefix(TRANSFORMERS), "config.json")).is_file():
        return f"{TRANSFORMERS}{digest_of(config)[:16]}"
    return model


def short_name(model: str) -> str:
    """Return a model's name without folders, for the names of records.

    >>> short_name("/data/nets/mine.py:build"), short_name("transformers:/data/vit")
    ('mine:build', 'transformers:vit')
    """
    if is_in_file(model):
        place, _, function = model.rpartition(":")
        return f"{Path(place).stem}:{function}"
    source, colon, name = model.rpartition(":")
    return f"{source}{colon}{Path(name).name if colon else name}"


def weights_url(model: str) -> str:
    """Return where torchvision's weights of a model lie; empty if it has none."""
    weights = _torchvision_weights(model)
    return str(weights.url) if weights else ""


def pictures_of(model: str) -> dict[str, Any]:
    """Return size, normalization, interpolation and crop of a model's weights, as timm names them.

    Empty where nothing says how its images were taken.
    """
    if weights := _torchvision_weights(model):
        preset = weights.transforms()
        size = preset.crop_size[0]
        return {
            "input_size": (3, size, size),
            "mean": tuple(preset.mean),
            "std": tuple(preset.std),
            "interpolation": preset.interpolation.value,
            "crop_pct": size / preset.resize_size[0],
        }
    file = Path(model.removeprefix(TRANSFORMERS), "preprocessor_config.json")
    if not model.startswith(TRANSFORMERS) or not file.is_file():
        return {}
    said = read_json(file)
    found = {"mean": said.get("image_mean"), "std": said.get("image_std")}
    size = said.get("size")
    if isinstance(size, dict):
        size = size.get("height") or size.get("shortest_edge")
    if isinstance(size, int):
        found |= {"input_size": (3, size, size), "crop_pct": said.get("crop_pct") or 1.0}
    return {key: value for key, value in found.items() if value}


def _torchvision_weights(model: str) -> Any:
    """The default weights of a torchvision model; None if it has none, or is of another source."""
    from torchvision import models

    name = model.removeprefix(TORCHVISION)
    if not model.startswith(TORCHVISION) or name not in models.list_models(models):
        return None
    return getattr(models.get_model_weights(name), "DEFAULT", None)


def build_from(
    model: str, classes: int, channels: int, size: int, arguments: Mapping[str, Any]
) -> nn.Module:
    """Build a network of a source, its weights drawn from torch's global generator.

    Args:
        model: ``torchvision:NAME``, ``transformers:PATH_OR_ID`` or ``FILE.py:FUNCTION``.
        classes: outputs.
        channels: of the images.
        size: side of the square images in pixels.
        arguments: further arguments of the constructor, or values of a transformers configuration.

    Returns:
        The network; a UsageError if there is none, or the function gives no module.
    """
    if is_in_file(model):
        return _of_file(model, classes, channels, size, arguments)
    if model.startswith(TORCHVISION):
        return _of_torchvision(model, classes, channels, size, arguments)
    return _of_transformers(model, classes, channels, size, arguments)


def _of_file(
    model: str, classes: int, channels: int, size: int, arguments: Mapping[str, Any]
) -> nn.Module:
    from torch import nn

    build = function_in_file(model, WHAT)
    network = build(num_classes=classes, in_chans=channels, image_size=size, **arguments)
    if not isinstance(network, nn.Module):
        raise UsageError(f"model {model!r}: it returns a {type(network).__name__}, not a module")
    return network


def _of_torchvision(
    model: str, classes: int, channels: int, size: int, arguments: Mapping[str, Any]
) -> nn.Module:
    from torchvision import models

    name = model.removeprefix(TORCHVISION)
    if name not in (known := models.list_models(models)):
        raise UsageError(f"torchvision has no model {name!r}: {nearest(name, known)}")
    taken = inspect.signature(models.get_model_builder(name)).parameters
    sized = {"image_size": size} if name.startswith("vit_") else {}
    sized |= {"input_size": (size, size)} if name.startswith("maxvit") else {}
    weights = {"weights": None} if "weights" in taken else {}
    network = models.get_model(name, **weights, num_classes=classes, **sized, **arguments)
    if channels != 3:  # torchvision's constructors know colour images alone
        _change_channels(network, channels)
    return network


def _change_channels(network: nn.Module, channels: int) -> None:
    """Replace the first convolution by one of as many input channels."""
    from torch import nn

    name, first = next((n, m) for n, m in network.named_modules() if isinstance(m, nn.Conv2d))
    owner, _, attribute = name.rpartition(".")
    changed = nn.Conv2d(
        channels,
        first.out_channels,
        kernel_size=first.kernel_size,  # type: ignore[arg-type]
        stride=first.stride,  # type: ignore[arg-type]
        padding=first.padding,  # type: ignore[arg-type]
        bias=first.bias is not None,
    )
    setattr(network.get_submodule(owner), attribute, changed)


def _of_transformers(
    model: str, classes: int, channels: int, size: int, arguments: Mapping[str, Any]
) -> nn.Module:
    name = model.removeprefix(TRANSFORMERS)
    try:
        from transformers import AutoConfig, AutoModelForImageClassification
    except ImportError:
        raise UsageError(
            f"model {model!r} needs transformers: pip install 'wash-bench[hf]'"
        ) from None
    local = Path(name).expanduser()
    try:
        config = AutoConfig.from_pretrained(
            str(local) if local.is_dir() else name, local_files_only=True
        )
    except (OSError, ValueError):
        raise UsageError(
            f"model {model!r}: there is no folder {local} with a config.json, and the hub's cache "
            f"has no {name}; fetch it with: hf download {name}"
        ) from None
    config.num_labels = classes
    for key, value in {"num_channels": channels, "image_size": size, **arguments}.items():
        if key in arguments or hasattr(config, key):
            setattr(config, key, value)
    network = AutoModelForImageClassification.from_config(config)
    kind = type(network)
    # The loop wants a tensor of logits; the names of the weights stay those of transformers.
    network.__class__ = type(kind.__name__, (_Logits, kind), {})
    return network


class _Logits:
    """Mixed into a network of transformers: called with images, it returns the logits."""

    def forward(self, images: Any) -> Any:
        return super().forward(pixel_values=images).logits  # type: ignore[misc]
