"""Where the settings of a run come from, and what they make of network and images, in words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from wash_bench.data.catalog import spec_of
from wash_bench.models.stems import resolve_stem
from wash_bench.study.options import LOCAL, OPTIONS
from wash_bench.study.presets import find_preset, preset_names

if TYPE_CHECKING:
    from wash_bench.config import TrainingConfig
    from wash_bench.study.sources import ConfigSource


def origin(layers: Sequence[ConfigSource], tuned: ConfigSource | None, dataset: str) -> str:
    """Name the preset (and other data that it was made for), the file, the options, in one line.

    Args:
        layers: all that was laid over each other, the command line last.
        tuned: the preset of the package among them.
        dataset: the data set that was resolved.

    Returns:
        The line, with a hint where no preset holds.
    """
    parts, hint = [], ""
    if tuned is None:
        parts.append("the built-in defaults and the methods' own")
        if len(layers) == 1:
            hint = _hint(dataset)
    else:
        made = str(tuned.values.get("dataset", dataset))
        other = f" (made for {made}, not for {dataset})" if made != dataset else ""
        parts.append(f"preset {tuned.file.removesuffix('.toml')}{other}")
    *files, given = layers
    parts += [layer.file for layer in files if layer is not tuned]
    items = [OPTIONS[key] for key in given.values]
    if flags := [item.flag for item in items if item.section != LOCAL]:
        parts.append(", ".join(flags))
    return f"Settings: {'; then '.join(parts)}.{hint}"


def _hint(dataset: str) -> str:
    own = [name for name in preset_names() if find_preset(name).values.get("dataset") == dataset]
    if own:
        return f" Presets made for {dataset}: {', '.join(own)}."
    return f" No preset is made for {dataset}; wash-bench tune finds methods' settings."


def chosen(training: TrainingConfig) -> str:
    """One line: the network with its stem, and the images with their size."""
    spec = spec_of(training.dataset)
    size = training.image_size or spec.size
    network = training.model
    if resolve_stem(training.stem, training.model, size) == "cifar":
        network += " with the papers' stem for small images (--stem keep: timm's own)"
    images = f"{training.dataset} at {size} px"
    if size != spec.size and spec.reader is not None:
        images += f" (resized from its {spec.size})"
    return f"Trains {network} on {images}, N = {training.population}."
