"""What is said of networks on disk, and what the user says, as one configuration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from wash_bench.data.catalog import spec_of
from wash_bench.errors import UsageError, note
from wash_bench.networks.found import OF_DATA, Found, of_architecture
from wash_bench.settings.resolve import Resolved, given, resolve

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
        settings, origin = _of_timm(name), f"timm's {name}"
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


def _of_timm(name: str) -> dict[str, Any]:
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
