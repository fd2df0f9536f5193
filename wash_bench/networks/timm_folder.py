"""The model card of an exported network: what it is, what it scores, how it is loaded."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wash_bench import __version__
from wash_bench.data.catalog import spec_of
from wash_bench.files import check_own, read_json, safetensors_header, write_text
from wash_bench.metrics import METRICS
from wash_bench.models.checkpoint_file import CHECKSUM
from wash_bench.models.sources import is_external
from wash_bench.models.stems import resolve_stem
from wash_bench.networks.inspect import OF_DATA, OF_NETWORK, natural_key
from wash_bench.report.tables.markdown import escape

if TYPE_CHECKING:
    from torch import Tensor

    from wash_bench.runner.training_setup import TrainingSetup


# Score -> the metric whose unit and digits it has, and its name here.
_SCORES = {
    "acc": ("average_acc", "accuracy"),
    "nll": ("average_nll", "loss"),
    "ece": ("average_ece", "expected calibration error"),
    "brier": ("average_brier", "Brier score"),
}


def card(
    config: Mapping[str, Any],
    *,
    about: str,
    scores: Mapping[str, float],
    commands: Sequence[str],
    notes: Sequence[str] = (),
    stem: str = "",
) -> str:
    """The text of ``README.md``.

    Args:
        config: the content of ``config.json``.
        about: what network it is, in words.
        scores: on test data.
        commands: that made and measure it.
        notes: sentences on where timm may see other images.
        stem: lines of Python that change timm's ``model`` into this one; empty where timm builds
            it by name.

    Returns:
        Markdown, with a head that the Hugging Face hub reads.
    """
    name, pictures = config["architecture"], config["pretrained_cfg"]
    training = config["wash_bench"]["training"]
    channels, size, _ = pictures["input_size"]
    rows = [f"| {title} | {score} |" for title, score in told(scores)]
    parts = [
        "---\nlibrary_name: timm\npipeline_tag: image-classification\ntags:\n- timm\n"
        "- weight-averaging\n---",
        f"# {name}, {config['num_classes']} classes",
        escape(
            f"{about[0].upper()}{about[1:]}; trained or merged on the data set "
            f"{training['dataset']}."
        ),
        "Scores on its test data:\n\n| | |\n|---|---:|\n" + "\n".join(rows),
        f"Images: {size} x {size} pixels, {channels} channel{'s' if channels > 1 else ''}, crop "
        f"{pictures['crop_pct']:g} of the resized picture, {pictures['interpolation']}; mean "
        f"{_numbers(pictures['mean'])}, standard deviation {_numbers(pictures['std'])}.",
        *notes,
        "## Loading it",
        f"```python\n{_loading(config, stem)}\n```",
        "## How it was made",
        "```bash\n" + "\n".join(commands) + "\n```",
        f"By wash-bench {__version__}.",
    ]
    return "\n\n".join(parts) + "\n"


def told(scores: Mapping[str, float]) -> list[tuple[str, str]]:
    """The names of scores with their units, and the scores as reports write them."""
    rows = []
    for score, (key, title) in _SCORES.items():
        if score in scores:
            metric = METRICS[key]
            unit = f" ({metric.unit})" if metric.unit else ""
            rows.append((title + unit, f"{scores[score]:.{metric.digits}f}"))
    return rows


def _loading(config: Mapping[str, Any], stem: str) -> str:
    args = {"num_classes": config["num_classes"]} | config.get("model_args", {})
    given = "".join(f", {key}={value!r}" for key, value in args.items())
    name = config["architecture"]
    if is_external(name):
        channels, size, _ = config["pretrained_cfg"]["input_size"]
        return (
            "from safetensors.torch import load_file\n"
            "from wash_bench.models.build import build_model\n\n"
            f"model = build_model({name!r}, classes={args.pop('num_classes')}, "
            f"channels={channels}, size={size}, model_args={args!r}, seed_value=0)\n"
            'model.load_state_dict(load_file("model.safetensors"))\nmodel.eval()'
        )
    if stem:
        return (
            "# timm has no name for this stem: its own network is changed, and then filled.\n"
            "import timm\nfrom safetensors.torch import load_file\nfrom torch import nn\n\n"
            f"model = timm.create_model({name!r}{given})\n{stem}\n"
            'model.load_state_dict(load_file("model.safetensors"))\nmodel.eval()'
        )
    return (
        "import timm\n\n"
        'model = timm.create_model("local-dir:.", pretrained=True).eval()  # this folder\n'
        "transform = timm.data.create_transform(**timm.data.resolve_model_data_config(model))\n\n"
        "# or, by name\n"
        f'model = timm.create_model({name!r}{given}, checkpoint_path="model.safetensors").eval()'
    )


def _numbers(values: Sequence[float]) -> str:
    return ", ".join(f"{value:g}" for value in values)


WEIGHTS, CONFIG, CARD = "model.safetensors", "config.json", "README.md"
CLASS_MAP = "class_map.txt"


@dataclass(frozen=True)
class Export:
    """What a folder is to hold.

    Attributes:
        setting: data and settings of the network.
        tensors: its weights and buffers, by name.
        about: what network it is, in words.
        scores: on test data, ``acc`` and ``ece`` in per cent, ``nll`` in nats, ``brier``.
        commands: the words of the command lines that made and measure it.
    """

    setting: TrainingSetup
    tensors: Mapping[str, Tensor]
    about: str
    scores: Mapping[str, float]
    commands: tuple[tuple[str, ...], ...]


def write_folder(export: Export, out: Path) -> list[Path]:
    """Write the files into a folder, each as a whole, the weights first; return their paths."""
    from wash_bench.train.checkpoint import save_network

    config = config_of(export)
    check_own(out, (WEIGHTS, CONFIG, CARD, CLASS_MAP), lambda name: _is_exported(out / name))
    save_network(out / WEIGHTS, export.tensors)
    write_text(out / CONFIG, json.dumps(config, indent=2) + "\n")
    text = card(
        config,
        about=export.about,
        scores=export.scores,
        commands=[shlex.join(words) for words in export.commands],
        notes=_notes(export),
        stem=_stem(export),
    )
    write_text(out / CARD, text)
    written = [out / WEIGHTS, out / CONFIG, out / CARD]
    if _sorted_otherwise(export):
        write_text(
            out / CLASS_MAP, "".join(f"{name}\n" for name in export.setting.data.class_names)
        )
        written.append(out / CLASS_MAP)
    return written


def _is_exported(path: Path) -> bool:
    """Whether a file is one that an earlier export, or a killed one, wrote."""
    try:
        if path.name == WEIGHTS:
            with path.open("rb") as file:
                return CHECKSUM in safetensors_header(file)[1].get("__metadata__", {})
        if path.name == CONFIG:
            return "wash_bench" in read_json(path)
        if path.name == CARD:
            return "\nBy wash-bench " in path.read_text(encoding="utf-8")
        return _is_exported(path.with_name(CONFIG))
    except (OSError, ValueError, AttributeError, TypeError):
        return False


def _sorted_otherwise(export: Export) -> bool:
    """Whether timm's readers sort the class folders in another order than the outputs."""
    names = list(export.setting.data.class_names)
    of_folders = spec_of(export.setting.config.dataset).reader is None
    return of_folders and sorted(names, key=natural_key) != names


def config_of(export: Export) -> dict[str, Any]:
    """The content of ``config.json``."""
    from timm.models import get_pretrained_cfg

    training, data = export.setting.config, export.setting.data
    if external := is_external(training.model):
        architecture, known = training.model, None
    else:
        architecture = training.model.partition(".")[0]  # a tag would name other weights
        known = get_pretrained_cfg(training.model, allow_unregistered=True)
    fixed = bool(known and known.fixed_input_size)
    if small_stem(export.setting) and architecture.startswith("vgg"):
        architecture = architecture.removesuffix("_bn") + "_bn"
    args = dict(training.model_args) | (
        {"in_chans": data.channels} if data.channels != 3 and not external else {}
    )
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


def small_stem(setting: TrainingSetup) -> bool:
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
        notes = [
            "Pictures of more than 8 bits a channel were scaled to 8, where Pillow, which timm "
            "uses, cuts off."
        ]
        if _sorted_otherwise(export):
            notes.append(
                "timm's readers sort class folders as numbers and without case; the outputs are in "
                f"the order of {CLASS_MAP}, which timm's scripts take as `--class-map`."
            )
        return notes
    if data.size != spec.size:
        return [
            f"The images were resized from {spec.size} pixels by torchvision, on tensors; Pillow's "
            "rounding, which timm uses, may differ by a step of 1/255."
        ]
    return []
