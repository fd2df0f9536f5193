"""What a file or folder says about the network in it: architecture, classes, preprocessing.

Understood are

- folders (and their files) of timm's training script, by their ``args.yaml``;
- its checkpoints alone, by the arguments that they hold;
- folders with timm's ``config.json``, as this package and the Hugging Face hub have them;
- the members and averages of a run folder, by the training's ``training.json``.

Of any other file the user must say the architecture. Weights are read later, by
``models.init_checkpoint``; no code in a file is run.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wash_bench.data.catalog import spec_of
from wash_bench.errors import UsageError, note
from wash_bench.models.stems import resolve_stem
from wash_bench.record.schema import Changed, unchanged
from wash_bench.settings.resolve import Resolved, given, resolve

CONFIG, ARGS, TRAINING = "config.json", "args.yaml", "training.json"
# Of a folder: the best epoch of timm's script before its last, the newest of others.
WEIGHTS = ("model.safetensors", "model_best.pth.tar", "last.pth.tar")
OTHERS = ("*.safetensors", "*.pth.tar", "*.ckpt", "*.pth", "*.pt", "*.bin")
# The settings that make a network and its images what they are, and those that say which images.
OF_NETWORK = (
    *("model", "model_args", "stem", "image_size", "mean", "std", "interpolation", "crop_pct"),
    *("channels_last", "amp"),
)
OF_DATA = ("dataset", "classes", "val_share", "train_limit")


@dataclass(frozen=True)
class Found:
    """A network on disk.

    Attributes:
        path: as the user named it.
        weights: the file with its tensors.
        settings: what is known, by key of the settings.
        origin: the file that says so; empty where nothing does.
        class_names: in the order of the outputs; empty where they are not known.
        recorded: its scores on test data, where an export wrote them down.
        notes: lines for the user.
    """

    path: Path
    weights: Path
    settings: Mapping[str, Any] = field(default_factory=dict)
    origin: str = ""
    class_names: tuple[str, ...] = ()
    recorded: Mapping[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def find(path: Path) -> Found:
    """What is at a path; a UsageError if there is nothing, or what describes it is damaged."""
    weights = _weights_in(path) if path.is_dir() else path
    if not weights.is_file():
        raise UsageError(f"{path}: there is no such file or folder")
    folder = weights.parent
    if (folder / CONFIG).is_file():
        return _of_config(path, weights, folder / CONFIG)
    if (folder / ARGS).is_file():
        return _of_timm(path, weights, _yaml(folder / ARGS), ARGS)
    for place in (folder, folder.parent):
        if (place / TRAINING).is_file() and weights.suffix == ".safetensors":
            return _of_training(path, weights, place / TRAINING)
    return _of_file(path, weights)


def _weights_in(folder: Path) -> Path:
    for name in WEIGHTS:
        if (folder / name).is_file():
            return folder / name
    for pattern in OTHERS:
        if found := sorted(folder.glob(pattern), key=lambda file: file.stat().st_mtime):
            return found[-1]
    raise UsageError(
        f"{folder}: holds no weights ({', '.join((*WEIGHTS, *OTHERS))}); name the file itself"
    )


def _of_config(path: Path, weights: Path, config: Path) -> Found:
    data = _json(config)
    about = data.get("pretrained_cfg", data)
    if not isinstance(name := data.get("architecture"), str) or not isinstance(about, dict):
        raise UsageError(f"{config}: has no 'architecture', so it is none of timm's")
    args = dict(data.get("model_args") or {})
    settings = _pictures(about, str(config)) | {"model": name}
    if own := {key: value for key, value in args.items() if key not in ("in_chans", "img_size")}:
        settings["model_arg"] = own
    names = data.get("label_names", about.get("label_names")) or ()
    ours = data.get("wash_bench") or {}  # what timm's form has no words for
    settings |= pinned(ours.get("training") or {})
    recorded = ours.get("scores") or {}
    notes = _squashed(about)
    return Found(path, weights, settings, str(config), _labels(names), recorded, notes)


def _of_timm(path: Path, weights: Path, args: Mapping[str, Any], origin: str) -> Found:
    """What the arguments of timm's training script come to, its model's defaults included."""
    from timm.data.config import resolve_data_config
    from timm.models import get_pretrained_cfg, is_model

    name = str(args.get("model") or "").removeprefix("hf-hub:").removeprefix("hf_hub:")
    name = name.removeprefix("timm/")
    if not name:
        raise UsageError(f"{path}: its {origin} names no model; give --model NAME")
    about: dict[str, Any] = {}
    if is_model(name):
        config = get_pretrained_cfg(name, allow_unregistered=True)
        given = {key: value for key, value in args.items() if value is not None}
        given.pop("in_chans", None)
        if isinstance(size := given.get("input_size"), list | tuple) and len(size) != 3:
            given.pop("input_size")
        about = resolve_data_config(given, pretrained_cfg=config.to_dict() if config else None)
    settings = _pictures(about, origin) | {"model": name}
    own = dict(args.get("model_kwargs") or {})
    if args.get("gp"):
        own["global_pool"] = args["gp"]
    if own := {key: value for key, value in own.items() if key not in ("in_chans", "img_size")}:
        settings["model_arg"] = own
    return Found(path, weights, settings, origin, notes=_squashed(about))


def _of_training(path: Path, weights: Path, file: Path) -> Found:
    config = _json(file).get("config") or {}
    return Found(path, weights, pinned(config.get("training") or {}), str(file))


def _of_file(path: Path, weights: Path) -> Found:
    from wash_bench.models.checkpoint_file import read_file

    _, beside = read_file(weights, str(path))
    if args := beside.get("args"):
        return _of_timm(path, weights, args, "own arguments")
    # Without its arguments the class's name is all that timm's script leaves there.
    return Found(path, weights)


def recorded_in(folder: Path) -> Mapping[str, float]:
    """The scores that an export wrote down; empty where there is none, or not a whole one."""
    if not (folder / CONFIG).is_file() or not (folder / WEIGHTS[0]).is_file():
        return {}
    return (_json(folder / CONFIG).get("wash_bench") or {}).get("scores") or {}


def of_architecture(name: str) -> dict[str, Any]:
    """The preprocessing of timm's own weights of an architecture (and tag), by key of settings."""
    from timm.data.config import resolve_data_config
    from timm.models import get_pretrained_cfg

    config = get_pretrained_cfg(name, allow_unregistered=True)
    return (
        _pictures(resolve_data_config({}, pretrained_cfg=config.to_dict()), name) if config else {}
    )


def _pictures(about: Mapping[str, Any], origin: str) -> dict[str, Any]:
    """Size, normalization, interpolation and crop of timm's configuration of data."""
    found: dict[str, Any] = {
        key: about[key] for key in ("mean", "std", "interpolation", "crop_pct") if about.get(key)
    }
    for key in ("mean", "std"):
        if key in found:
            found[key] = tuple(found[key])
    if size := about.get("input_size"):
        if size[1] != size[2]:
            raise UsageError(f"{origin}: takes images of {size[1]} x {size[2]}; only squares do")
        found["image_size"] = size[1]
    return found


def _squashed(about: Mapping[str, Any]) -> tuple[str, ...]:
    mode = about.get("crop_mode") or "center"
    if mode == "center":
        return ()
    return (f"crops the centre of pictures, where its crop_mode is {mode!r}",)


def pinned(training: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a recorded training that its networks are used under, by key."""
    # Size and normalization are written out where they were the data set's, so that they go along
    # to other data.
    known = {key: training.get(key) for key in (*OF_NETWORK, *OF_DATA)}
    kept = {key: value for key, value in known.items() if value is not None}
    if "model_args" in kept:
        kept["model_arg"] = kept.pop("model_args")
    try:
        spec = spec_of(str(kept.get("dataset")))
    except UsageError:  # of a newer version
        return kept
    kept["image_size"] = kept.get("image_size") or spec.size
    stem, model = (str(kept.get(key, "")) for key in ("stem", "model"))
    kept["stem"] = resolve_stem(stem, model, kept["image_size"])
    return {"mean": spec.mean, "std": spec.std} | kept


def _labels(names: Any) -> tuple[str, ...]:
    if isinstance(names, Mapping):
        names = [names[key] for key in sorted(names, key=int)]
    return tuple(map(str, names))


def _json(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f"{path}: cannot read it ({error})") from None
    if not isinstance(data, dict):
        raise UsageError(f"{path}: holds no JSON object")
    try:
        return unchanged(data)
    except Changed as problem:
        raise UsageError(f"{path}: {problem}") from None


def _yaml(path: Path) -> dict[str, Any]:
    import yaml

    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise UsageError(f"{path}: cannot read it ({reason})") from None
    if not isinstance(data, dict):
        raise UsageError(f"{path}: holds no arguments of timm's training script")
    return data


_OF_PICTURES = ("interpolation", "crop_pct")
# What networks of one population must have in common, by key of the settings.
_COMMON = ("model", "model_arg", "stem", "image_size", "mean", "std", *_OF_PICTURES)


def resolved_for(
    found: Sequence[Found], options: Mapping[str, Any], **fixed: Any
) -> tuple[Resolved, str]:
    """The settings under which networks are used.

    Args:
        found: the networks, which share an architecture and a preprocessing.
        options: what the user gave, by key of the settings; wins over what files say.
        **fixed: further settings, which neither says.

    Returns:
        The settings, and where those of the pictures come from, in words.

    Raises:
        UsageError: nobody names the data or the architecture, or two networks differ.
    """
    said = given(options)
    told = [network for network in found if network.origin]
    _agree(told, said)
    settings = dict(told[0].settings) if told else {}
    dataset = said.get("dataset") or settings.get("dataset")
    if not dataset:
        raise UsageError("--dataset is missing: name the images, as folder:PATH")
    spec = spec_of(dataset)
    name = said.get("model") or settings.get("model")
    if not name:
        raise UsageError(f"{found[0].path}: nothing says which architecture it is; give --model")
    if settings.get("dataset") != dataset:
        settings = {key: value for key, value in settings.items() if key not in OF_DATA}
    origin = told[0].origin if told else "the data set"
    if not told and spec.reader is None:  # pictures: as timm's own weights take them
        settings, origin = _timm_settings(name), f"timm's {name}"
    if spec.reader:  # its images are taken whole
        settings = {key: value for key, value in settings.items() if key not in _OF_PICTURES}
    for key in ("mean", "std"):
        if len(settings.get(key) or spec.mean) != spec.channels:
            del settings[key]
    if own := [key for key in said if key in ("image_size", "mean", "std", *_OF_PICTURES)]:
        flags = ", ".join("--" + key.replace("_", "-") for key in own)
        origin = f"{origin}; {flags}"
    for line in dict.fromkeys(f"{item.path}: {line}" for item in found for line in item.notes):
        note(line)
    return resolve(None, None, settings | said | fixed, defaults=True), origin


def _timm_settings(name: str) -> dict[str, Any]:
    from wash_bench.models.names import check_architecture

    return of_architecture(check_architecture(name))


def _agree(told: Sequence[Found], said: Mapping[str, Any]) -> None:
    for other in told[1:]:
        first = told[0]
        for key in _COMMON:
            one, two = first.settings.get(key), other.settings.get(key)
            if (
                key not in said
                and one is not None
                and two is not None
                and _plain(one) != _plain(two)
            ):
                raise UsageError(
                    f"{other.path} has {key.replace('_', ' ')} {two}, {first.path} has {one}: "
                    f"one population has one; give --{key.replace('_', '-')}"
                )


def _plain(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def check_names(found: Sequence[Found], names: Sequence[str], dataset: str) -> None:
    """A UsageError where a network's classes are not the data's, in their order."""
    for item in found:
        own = item.class_names
        if not own or not names or tuple(own) == tuple(names):
            continue
        if len(own) == len(names):
            place = next(i for i, (a, b) in enumerate(zip(own, names, strict=True)) if a != b)
            raise UsageError(
                f"{item.path}: its class {place} is {own[place]!r}, that of {dataset} is "
                f"{names[place]!r}; rename the class folders, or remove label_names from its "
                "config.json"
            )
