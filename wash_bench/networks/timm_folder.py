"""A folder that timm loads: ``model.safetensors``, ``config.json`` and a card, ``README.md``.

``timm.create_model("local-dir:DIR", pretrained=True)`` builds the network of ``config.json`` with
its weights, and timm's own transform for it gives the images that were measured here. What timm's
form has no words for stands under ``wash_bench``, where timm does not look.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wash_bench import __version__
from wash_bench.data.catalog import spec_of
from wash_bench.files import write_text
from wash_bench.models.stems import resolve_stem
from wash_bench.networks.card import card
from wash_bench.networks.found import OF_DATA, OF_NETWORK

if TYPE_CHECKING:
    from torch import Tensor

    from wash_bench.runner.setting import Setting

WEIGHTS, CONFIG, CARD = "model.safetensors", "config.json", "README.md"


@dataclass(frozen=True)
class Export:
    """What a folder is to hold.

    Attributes:
        setting: data and settings of the network.
        tensors: its weights and buffers, by name.
        about: what network it is, in words.
        scores: on test data, ``acc`` and ``ece`` in per cent, ``nll`` in nats, ``brier``.
        commands: the command lines that made and measure it.
    """

    setting: Setting
    tensors: Mapping[str, Tensor]
    about: str
    scores: Mapping[str, float]
    commands: tuple[str, ...]


def write_folder(export: Export, out: Path) -> list[Path]:
    """Write the three files into a folder, each as a whole, the weights first; their paths."""
    from wash_bench.train.checkpoint import save_network

    config = config_of(export)
    save_network(out / WEIGHTS, export.tensors)
    write_text(out / CONFIG, json.dumps(config, indent=2) + "\n")
    text = card(
        config,
        about=export.about,
        scores=export.scores,
        commands=export.commands,
        notes=_notes(export),
        stem=_stem(export),
    )
    write_text(out / CARD, text)
    return [out / WEIGHTS, out / CONFIG, out / CARD]


def config_of(export: Export) -> dict[str, Any]:
    """The content of ``config.json``."""
    from timm.models import get_pretrained_cfg

    training, data = export.setting.config, export.setting.data
    architecture = training.model.partition(".")[0]  # a tag would name other weights
    known = get_pretrained_cfg(training.model, allow_unregistered=True)
    fixed = bool(known and known.fixed_input_size)
    if small_stem(export.setting) and architecture.startswith("vgg"):
        architecture = architecture.removesuffix("_bn") + "_bn"
    args = dict(training.model_args) | ({"in_chans": data.channels} if data.channels != 3 else {})
    if fixed:
        args = {"img_size": data.size} | args
    pictures: dict[str, Any] = {
        "input_size": [data.channels, data.size, data.size],
        "fixed_input_size": fixed,
        "interpolation": data.interpolation,
        "crop_pct": crop_pct(data.size, data.shorter_side or data.size, training.crop_pct),
        "crop_mode": "center",
        "mean": list(data.mean),
        "std": list(data.std),
        "num_classes": data.classes,
        "custom_load": False,
    }
    if known:
        pictures |= {key: getattr(known, key) for key in ("first_conv", "classifier")}
    own = training.model_dump(mode="json", include={*OF_NETWORK, *OF_DATA})
    own |= {"image_size": data.size, "mean": list(data.mean), "std": list(data.std)}
    own["stem"] = resolve_stem(training.stem, training.model, data.size)
    network = export.setting.network(0, 0)
    config = {
        "architecture": architecture,
        "num_classes": data.classes,
        "num_features": getattr(network, "num_features", None),
        "label_names": list(data.class_names),
        "model_args": args,
        "pretrained_cfg": {
            key: value for key, value in pictures.items() if value not in (None, "")
        },
        "wash_bench": {
            "version": __version__,
            "training": own,
            "scores": dict(export.scores),
        },
    }
    return {key: value for key, value in config.items() if value not in (None, [], {})}


def small_stem(setting: Setting) -> bool:
    """Whether the network has the papers' stem, which timm cannot build by name."""
    training = setting.config
    return resolve_stem(training.stem, training.model, setting.data.size) == "cifar"


def crop_pct(size: int, shorter_side: int, given: float = 0.0) -> float:
    """The share by which timm, which rounds ``size / share`` down, resizes to ``shorter_side``."""
    rounded = (round(size / shorter_side, digits) for digits in (3, 4, 5))
    shares = (given or 1.0, *rounded, size / shorter_side)
    fits = (share for share in shares if share <= 1 and int(size / share) == shorter_side)
    return next(fits, size / (shorter_side + 0.5))


def _stem(export: Export) -> str:
    """Lines of Python that change timm's ``model`` into this one; "" where it is the same."""
    if not small_stem(export.setting):
        return ""
    data = export.setting.data
    if "conv1.weight" in export.tensors:
        width = len(export.tensors["conv1.weight"])
        return (
            f"model.conv1 = nn.Conv2d({data.channels}, {width}, 3, padding=1, bias=False)\n"
            "model.maxpool = nn.Identity()"
        )
    return (
        "model.pre_logits = nn.Identity()\n"
        f"model.head.fc = nn.Linear(model.num_features, {data.classes})"
    )


def _notes(export: Export) -> list[str]:
    """Where timm's transform may make other images of the same files."""
    training, data = export.setting.config, export.setting.data
    spec = spec_of(training.dataset)
    if spec.reader is None:
        return [
            "Pictures of more than 8 bits a channel were scaled to 8, where Pillow, which timm "
            "uses, cuts off."
        ]
    if data.size != spec.size:
        return [
            f"The images were resized from {spec.size} pixels by torchvision, on tensors; Pillow's "
            "rounding, which timm uses, may differ by a step of 1/255."
        ]
    return []
