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
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wash_bench.data.catalog import spec_of
from wash_bench.data.paths import near, nfc
from wash_bench.errors import UsageError, note, one_line
from wash_bench.models.checkpoint_file import INDEX
from wash_bench.models.sources import is_external, pictures_of
from wash_bench.models.stems import resolve_stem
from wash_bench.record.schema import Changed, unchanged
from wash_bench.study.resolve import Resolved, given, resolve

if TYPE_CHECKING:
    from wash_bench.data.source import DataSource

CONFIG, ARGS, TRAINING = "config.json", "args.yaml", "training.json"
# Of a folder: the best epoch of timm's script before its last, the newest of others.
WEIGHTS = ("model.safetensors", "model_best.pth.tar", "last.pth.tar")
OTHERS = ("*.safetensors", "*.pth.tar", "*.ckpt", "*.pth", "*.pt", "*.bin")
_MOST_VALUES = 10_000  # of an args.yaml
_SHARD, _ADAPTER = re.compile(r"-\d+-of-\d+\.\w+$"), re.compile(r"^adapter_model\.")
_BESIDE = ("optimizer", "scheduler", "training_args", "rng_state", "scaler")  # of Trainer's folders
# The settings that make a network and its images what they are, and those that say which images.
OF_NETWORK = (
    *("model", "model_args", "stem", "image_size", "mean", "std", "interpolation", "crop_pct"),
    *("channels_last", "amp"),
)
OF_DATA = ("dataset", "classes", "val_share", "train_limit")


@dataclass(frozen=True)
class NetworkInfo:
    """A network on disk.

    Attributes:
        path: as the user named it.
        weights: the file with its tensors.
        settings: what is known, by key of the settings.
        origin: the file that says so; empty where nothing does.
        class_names: in the order of the outputs; empty where they are not known.
        natural: whether the outputs are in timm's order of class folders: numbers by value,
            without case.
        recorded: its scores on test data, where an export wrote them down.
        notes: lines for the user.
    """

    path: Path
    weights: Path
    settings: Mapping[str, Any] = field(default_factory=dict)
    origin: str = ""
    class_names: tuple[str, ...] = ()
    natural: bool = False
    recorded: Mapping[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def classes_of(self, folders: Sequence[str]) -> tuple[str, ...]:
        """Return the classes of the outputs, in order, trained on these; empty if not known."""
        return self.class_names or (tuple(sorted(folders, key=natural_key)) if self.natural else ())


def natural_key(name: str) -> list[tuple[int, str]]:
    """Return the key by which timm's readers sort class folders."""
    parts = re.split(r"(\d+)", name.lower())
    return [(int(part), "") if i % 2 else (-1, part) for i, part in enumerate(parts)]


def find(path: Path) -> NetworkInfo:
    """Return what is at a path; a UsageError if there are no weights."""
    # What lies beside the weights and is not understood is left aside, with a note.
    weights, notes = _weights_in(path) if path.is_dir() else (path, ())
    if not weights.is_file():
        raise UsageError(f"{path}: there is no such file or folder")
    for read in _readers(path, weights):
        try:
            found = read()
            return replace(found, notes=(*notes, *found.notes))
        except _NotUnderstood as reason:
            notes = (*notes, f"{reason}; it is left aside")
    return NetworkInfo(path, weights, notes=notes)


class _NotUnderstood(Exception):
    """A file beside the weights is of another program, or damaged."""


def _readers(path: Path, weights: Path) -> Iterator[Callable[[], NetworkInfo]]:
    """What may say which network a file holds, one after another."""
    folder = weights.parent
    if (config := folder / CONFIG).is_file():
        yield lambda: _of_config(path, weights, config)
    if (args := folder / ARGS).is_file():
        yield lambda: _of_timm(path, weights, _yaml(args), str(args))
    if weights.suffix == ".safetensors":
        for training in (folder / TRAINING, folder.parent / TRAINING):
            if training.is_file():
                yield lambda file=training: _of_training(path, weights, file)
    yield lambda: _of_file(path, weights)


def _weights_in(folder: Path) -> tuple[Path, tuple[str, ...]]:
    """The file with a folder's network, and a note where it was chosen among several."""
    for name in WEIGHTS:
        if (folder / name).is_file():
            return folder / name, ()
    if indices := sorted(folder.glob(f"*{INDEX}")):
        return indices[0], ()
    for pattern in OTHERS:
        found = sorted(folder.glob(pattern), key=lambda file: file.stat().st_mtime)
        if shards := [file.name for file in found if _SHARD.search(file.name)]:
            raise UsageError(
                f"{folder}: holds shards ({shards[0]}, ...) and no *{INDEX} that lists them; take "
                "it along, or join them into one file"
            )
        if [file.name for file in found if _ADAPTER.search(file.name)]:
            raise UsageError(
                f"{folder}: holds an adapter (PEFT), which is no whole network; merge it into its "
                "base and save that"
            )
        if found := [file for file in found if not file.name.startswith(_BESIDE)]:
            many = f"{found[-1].name} is read, the newest of {len(found)} files of weights"
            return found[-1], (many,) if len(found) > 1 else ()
    raise UsageError(
        f"{folder}: holds no weights ({', '.join((*WEIGHTS, *OTHERS))}); name the file itself"
    )


def _of_config(path: Path, weights: Path, config: Path) -> NetworkInfo:
    data = _json(config)
    about = data.get("pretrained_cfg", data)
    if not isinstance(name := data.get("architecture"), str) or not isinstance(about, dict):
        raise _NotUnderstood(f"{config} has no 'architecture', so it is none of timm's")
    args = dict(_table(data.get("model_args"), config))
    settings = _pictures(about, str(config)) | {"model": name}
    if own := {key: value for key, value in args.items() if key not in ("in_chans", "img_size")}:
        settings["model_arg"] = own
    names = data.get("label_names", about.get("label_names")) or ()
    ours = _table(data.get("wash_bench"), config)  # what timm's form has no words for
    settings |= pinned(_table(ours.get("training"), config), config)
    recorded = _table(ours.get("scores"), config)
    notes = _squashed(about)
    return NetworkInfo(path, weights, settings, str(config), _labels(names), False, recorded, notes)


def _table(value: Any, file: Path) -> Mapping[str, Any]:
    if value is None or isinstance(value, Mapping):
        return value or {}
    raise _NotUnderstood(f"{file} has {str(value)[:40]!r} in place of a table")


def _of_timm(path: Path, weights: Path, args: Mapping[str, Any], origin: str) -> NetworkInfo:
    """What the arguments of timm's training script come to, its model's defaults included."""
    from timm.data.config import resolve_data_config
    from timm.models import get_pretrained_cfg, is_model

    from wash_bench.models import residual  # noqa: F401 (registers our networks with timm)

    name = str(args.get("model") or "").removeprefix("hf-hub:").removeprefix("hf_hub:")
    name = name.removeprefix("timm/")
    if not name or not is_model(name):
        raise _NotUnderstood(f"{origin} names no model of timm's")
    config = get_pretrained_cfg(name, allow_unregistered=True)
    given = {key: value for key, value in args.items() if value is not None}
    given.pop("in_chans", None)
    if isinstance(size := given.get("input_size"), list | tuple) and len(size) != 3:
        given.pop("input_size")
    try:
        about = resolve_data_config(given, pretrained_cfg=config.to_dict() if config else None)
    except (AssertionError, TypeError, ValueError, KeyError, AttributeError) as error:
        raise _NotUnderstood(f"{origin} says no preprocessing ({error})") from None
    settings = _pictures(about, origin) | {"model": name}
    own = dict(_table(args.get("model_kwargs"), Path(origin)))
    own |= {key: args[key] for key in ("bn_eps",) if args.get(key) is not None}
    if args.get("gp"):
        own["global_pool"] = args["gp"]
    if own := {key: value for key, value in own.items() if key not in ("in_chans", "img_size")}:
        settings["model_arg"] = own
    notes = _squashed(about)
    if args.get("split_bn"):
        notes = (*notes, f"{origin}: split_bn, whose further BatchNorm layers are not known here")
    names: tuple[str, ...] = ()
    if named := args.get("class_map"):
        roots = [Path(str(args.get(key) or "")) for key in ("data_dir", "data")]
        names = _class_map(str(named), [Path(origin).parent, *roots])
        if not names:
            lost = f"{origin}: its class_map {named} is not read: the classes' order is not known"
            notes = (*notes, lost)
    of_folders = str(args.get("dataset") or "") in ("", "imagefolder", "folder")
    natural = of_folders and not named
    return NetworkInfo(path, weights, settings, origin, names, natural, notes=notes)


def _class_map(named: str, roots: Sequence[Path]) -> tuple[str, ...]:
    """The classes of timm's text file, a line each, in order; empty if it is not there."""
    for path in (Path(named), *(root / named for root in roots)):
        if path.suffix == ".txt" and path.is_file():
            try:
                lines = path.read_text("utf-8-sig").splitlines()
            except (OSError, UnicodeDecodeError):
                return ()
            return tuple(line.strip() for line in lines)
    return ()


def _of_training(path: Path, weights: Path, file: Path) -> NetworkInfo:
    data = _json(file)
    training = _table(_table(data.get("config"), file).get("training"), file)
    names = _labels(data.get("class_names"))
    return NetworkInfo(path, weights, pinned(training, file), str(file), names)


def _of_file(path: Path, weights: Path) -> NetworkInfo:
    from wash_bench.models.checkpoint_file import read_file

    _, beside = read_file(weights, str(path))
    if args := beside.get("args"):
        return _of_timm(path, weights, args, f"{weights.name}'s own arguments")
    # Without its arguments the class's name is all that timm's script leaves there.
    return NetworkInfo(path, weights)


def recorded_in(folder: Path) -> Mapping[str, float]:
    """The scores that an export wrote down; empty where there is none, or not a whole one."""
    if not (folder / CONFIG).is_file() or not (folder / WEIGHTS[0]).is_file():
        return {}
    return (_json(folder / CONFIG).get("wash_bench") or {}).get("scores") or {}


def of_architecture(name: str) -> dict[str, Any]:
    """The preprocessing of an architecture's own weights (and tag's), by key of settings."""
    if is_external(name):
        return _pictures(pictures_of(name), name)
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
            found[key] = _numbers(found[key], key, origin)
    if size := about.get("input_size"):
        size = _numbers(size, "input_size", origin)
        if len(size) != 3:
            raise _NotUnderstood(f"{origin} has an input_size that is not three numbers")
        if size[1] != size[2]:
            raise UsageError(
                f"{origin}: takes images of {size[1]:g} x {size[2]:g}; only squares do"
            )
        found["image_size"] = int(size[1])
    return found


def _numbers(given: Any, key: str, origin: str) -> tuple[float, ...]:
    if isinstance(given, list | tuple) and all(
        isinstance(n, int | float) and not isinstance(n, bool) for n in given
    ):
        return tuple(given)
    raise _NotUnderstood(f"{origin} has the {key} {str(given)[:40]!r}, which is no list of numbers")


def _squashed(about: Mapping[str, Any]) -> tuple[str, ...]:
    mode = about.get("crop_mode") or "center"
    if mode == "center":
        return ()
    return (f"crops the centre of pictures, where its crop_mode is {mode!r}",)


def pinned(training: Mapping[str, Any], file: Path | None = None) -> dict[str, Any]:
    """The settings of a recorded training (in a file) that its networks are used under, by key."""
    # Size and normalization are written out where they were the data set's, so that they go along
    # to other data.
    known = {key: training.get(key) for key in (*OF_NETWORK, *OF_DATA)}
    kept = {key: value for key, value in known.items() if value is not None}
    if "model_args" in kept:
        kept["model_arg"] = kept.pop("model_args")
    if file:
        kept.update({k: near(str(kept[k]), file) for k in ("dataset", "model") if k in kept})
    try:
        spec = spec_of(str(kept.get("dataset")))
    except UsageError:  # of a newer version
        return kept
    kept["image_size"] = kept.get("image_size") or spec.size
    stem, model = (str(kept.get(key, "")) for key in ("stem", "model"))
    kept["stem"] = resolve_stem(stem, model, kept["image_size"])
    return {"mean": spec.mean, "std": spec.std} | kept


def _labels(names: Any) -> tuple[str, ...]:
    try:
        if isinstance(names, Mapping):
            names = [names[key] for key in sorted(names, key=lambda key: int(str(key)))]
        return tuple(map(str, names)) if isinstance(names, list | tuple) else ()
    except ValueError:  # by something other than the outputs' numbers
        return ()


def _json(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise _NotUnderstood(f"{path} cannot be read ({one_line(error)})") from None
    if not isinstance(data, dict):
        raise _NotUnderstood(f"{path} holds no JSON object")
    try:
        return unchanged(data)
    except Changed as error:
        raise UsageError(f"{path}: {error}") from None


def _yaml(path: Path) -> dict[str, Any]:
    import yaml

    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise _NotUnderstood(f"{path} cannot be read ({one_line(error)})") from None
    if not isinstance(data, dict):
        raise _NotUnderstood(f"{path} holds no arguments of timm's training script")
    pending, seen = [data], 0  # aliases may stand for far more than a file's length
    while pending and seen < _MOST_VALUES:
        value = pending.pop()
        seen += 1
        pending += (
            value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
        )
    if pending:
        raise _NotUnderstood(f"{path} stands for more than {_MOST_VALUES:,} values")
    return data


_OF_PICTURES = ("interpolation", "crop_pct")
# What networks of one population must have in common, by key of the settings.
_COMMON = ("model", "model_arg", "stem", "image_size", "mean", "std", *_OF_PICTURES)


def resolved_for(
    found: Sequence[NetworkInfo], options: Mapping[str, Any], **fixed: Any
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
        why = "".join(f" ({line})" for line in found[0].notes)
        raise UsageError(
            f"{found[0].path}: nothing says which architecture it is{why}; give --model"
        )
    if settings.get("dataset") != dataset:
        settings = {key: value for key, value in settings.items() if key not in OF_DATA}
    if said.get("model") and said["model"] != settings.get("model"):  # of another network
        settings = {k: v for k, v in settings.items() if k not in ("model_arg", "stem")}
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


def _agree(told: Sequence[NetworkInfo], said: Mapping[str, Any]) -> None:
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


def in_order_of(found: Sequence[NetworkInfo], data: DataSource, dataset: str) -> DataSource:
    """Return the data with labels in the order of the networks' outputs.

    Args:
        found: the networks.
        data: the images that they are measured on.
        dataset: its name, for notes.

    Raises:
        UsageError: the networks' classes are not the data's, or those of two networks differ in
            their order.
    """
    folders = data.class_names
    orders: dict[tuple[str, ...], NetworkInfo] = {}
    for item in found if folders else ():
        own = item.classes_of(folders)
        if own and len(own) == len(folders):  # or the head does not fit, which is told of later
            orders.setdefault(tuple(map(nfc, own)), item)
    if not orders:
        by_value = sorted(folders, key=natural_key)
        if found and not any(item.origin for item in found) and by_value != list(folders):
            i = _first_difference(by_value, folders)
            note(
                f"nothing says in which order {found[0].path} has its classes: class {i} is "
                f"{folders[i]!r} here, as torchvision sorts folders, and {by_value[i]!r} by timm"
            )
        return data
    (names, first), *others = orders.items()
    here = tuple(map(nfc, folders))
    if difference := [i for i, name in enumerate(names) if name not in here]:
        raise UsageError(
            f"{first.path}: its class {difference[0]} is {names[difference[0]]!r}, which {dataset} "
            f"does not have; its classes are {_some(folders)}, the network's {_some(names)}: "
            "rename the class folders, or remove the names from its files"
        )
    for other, item in others:
        i = _first_difference(names, other)
        raise UsageError(
            f"{item.path}: its class {i} is {other[i]!r}, and {names[i]!r} that of {first.path}; "
            "networks of one population have their classes in one order"
        )
    if names == here:
        return data
    note(f"{first.path}: labels follow the order of its classes, {_some(names)}")
    return data.in_order(names)


def _first_difference(one: Sequence[str], other: Sequence[str]) -> int:
    return next(i for i, (a, b) in enumerate(zip(one, other, strict=True)) if a != b)


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:4]) + (", ..." if len(names) > 4 else "")
