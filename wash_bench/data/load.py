"""From a configuration to its data."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from wash_bench.config import TrainingConfig
from wash_bench.data.adapters import read_external
from wash_bench.data.catalog import DatasetSpec, check_classes, is_external, spec_of
from wash_bench.data.folder import FolderSource
from wash_bench.data.memory import MemorySource
from wash_bench.data.scan import scan
from wash_bench.data.source import DataSource
from wash_bench.errors import UsageError, WashBenchError

if TYPE_CHECKING:
    from wash_bench.data.readers import Arrays
    from wash_bench.data.scan import Folders, Images


def load_data(
    config: TrainingConfig, device: torch.device, *, download: bool = False
) -> DataSource:
    """Load the configured data set; an error says how to get what is missing or damaged."""
    spec, chosen = _normalized(spec_of(config.dataset), config), config.chosen_classes
    sizes = config.model_dump(
        include={"val_share", "val_limit", "train_limit", "subset_seed", "image_size"}
    )
    if spec.reader:
        check_classes(chosen, spec.classes, spec.name)
        folder = Path(config.data_dir).expanduser() if config.data_dir else None
        arrays = spec.reader(folder, download)
        if chosen:
            arrays, spec = arrays_of_classes(arrays, chosen), replace(spec, classes=len(chosen))
        source = MemorySource(spec, arrays, device, **sizes)
        names = spec.class_names
        source.class_names = tuple(names[i] for i in chosen) if chosen and names else names
        return source
    if is_external(spec.name):
        root = spec.name
        folders = read_external(spec.name, config.data_dir, download=download)
    elif root := spec.root(config.data_dir):
        folders = scan(Path(root).expanduser())
    else:
        raise UsageError(f"{spec.name} needs --data-dir, the folder with its train/ and val/")
    if spec.classes and len(folders.classes) != spec.classes:
        raise WashBenchError(
            f"{root} has {len(folders.classes)} class folders, {spec.name} has {spec.classes}; "
            f"use --dataset folder:{root} for another set"
        )
    check_classes(chosen, len(folders.classes), spec.name)
    if chosen:
        folders = folders_of_classes(folders, chosen)
    pictures = config.model_dump(include={"interpolation", "crop_pct"})
    source = FolderSource(spec, folders, device, **sizes, **pictures, members=config.population)
    if not config.image_size and (side := _usual_side(folders)) <= spec.size / 2:
        source.notes.append(
            f"the images of {root} are {side} px and are enlarged to {spec.size} px: "
            f"--image-size {side} takes {(side / spec.size) ** 2:.1%} of the time"
        )
    return source


def _usual_side(folders: Folders) -> int:
    """The median shorter side, in pixels, of some training images that can be read."""
    sides = []
    for path in folders.train[0][:: max(1, len(folders.train[0]) // 20)]:
        with contextlib.suppress(Exception):  # Pillow's plug-ins raise many kinds
            sides.append(min(folders.open(path).size))
    return sorted(sides)[len(sides) // 2] if sides else spec_of("imagenet").size


def _normalized(spec: DatasetSpec, config: TrainingConfig) -> DatasetSpec:
    """The data set with the mean and standard deviation that are asked for."""
    given = {key: getattr(config, key) for key in ("mean", "std") if getattr(config, key)}
    for key, values in given.items():
        if len(values) != spec.channels:
            raise UsageError(
                f"--{key} {','.join(map(str, values))}: {spec.name} has images of {spec.channels} "
                f"channel{'s' if spec.channels > 1 else ''}; give as many numbers"
            )
    return replace(spec, **given)


def arrays_of_classes(arrays: Arrays, chosen: Sequence[int]) -> Arrays:
    """The images of the chosen classes; the i-th of them gets label i."""
    kept, labels = _relabelled(arrays.labels, chosen)
    part = copy.copy(arrays)
    part.images, part.labels = arrays.images[kept], labels
    part.train = int((kept < arrays.train).sum())
    return part


def folders_of_classes(folders: Folders, chosen: Sequence[int]) -> Folders:
    """The files of the chosen class folders; the i-th of them gets label i."""

    def part(images: Images) -> Images:
        paths, labels = images
        kept, relabelled = _relabelled(labels, chosen)
        return [paths[index] for index in kept], relabelled

    names = tuple(folders.classes[index] for index in chosen)
    return replace(folders, classes=names, train=part(folders.train), test=part(folders.test))


def _relabelled(labels: np.ndarray, chosen: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """Positions of the images of the chosen classes, ascending, and their new labels."""
    kept = np.flatnonzero(np.isin(labels, chosen))
    return kept, np.searchsorted(np.asarray(chosen), labels[kept]).astype(np.int64)
