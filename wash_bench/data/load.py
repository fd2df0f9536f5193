"""From a configuration to its data."""

from dataclasses import replace
from pathlib import Path

import torch

from wash_bench.config import TrainingConfig
from wash_bench.data.catalog import DatasetSpec, check_classes, spec_of
from wash_bench.data.folder import FolderSource
from wash_bench.data.memory import MemorySource
from wash_bench.data.scan import scan
from wash_bench.data.source import DataSource
from wash_bench.data.subset import arrays_of_classes, folders_of_classes
from wash_bench.errors import UsageError, WashBenchError


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
    root = spec.root(config.data_dir)
    if not root:
        raise UsageError(f"{spec.name} needs --data-dir, the folder with its train/ and val/")
    folders = scan(Path(root).expanduser())
    if spec.classes and len(folders.classes) != spec.classes:
        raise WashBenchError(
            f"{root} has {len(folders.classes)} class folders, {spec.name} has {spec.classes}; "
            f"use --dataset folder:{root} for another set"
        )
    check_classes(chosen, len(folders.classes), spec.name)
    if chosen:
        folders = folders_of_classes(folders, chosen)
    pictures = config.model_dump(include={"interpolation", "crop_pct"})
    return FolderSource(spec, folders, device, **sizes, **pictures, members=config.population)


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
