"""Whether what the settings name is there: architectures, data, checkpoints, folders.

No torch: a mistake is answered before it is loaded.
"""

import os
import re
from pathlib import Path

from wash_bench.config import TrainingConfig
from wash_bench.data.catalog import check_classes, is_external, spec_of
from wash_bench.data.external import check_external
from wash_bench.data.paths import check_place
from wash_bench.errors import UsageError, nearest
from wash_bench.models.init_checkpoint import check_checkpoint
from wash_bench.models.names import check_architecture

_DEVICE = re.compile(r"auto|cpu|mps|cuda(:\d+)?")


def check_names(training: TrainingConfig) -> None:
    """A UsageError if network, data set or device is unknown, or the data too few."""
    check_architecture(training.model)
    spec = spec_of(training.dataset)
    if is_external(training.dataset):
        check_external(training.dataset)
    check_place(training.dataset, training.data_dir)
    if not _DEVICE.fullmatch(training.device):
        hint = nearest(training.device, ["auto", "cpu", "cuda", "cuda:0", "mps"])
        raise UsageError(f"unknown device {training.device!r}: {hint}")
    images = spec.train_images or 0
    images = min(images, training.train_limit or images)
    if 0 < images < training.batch_size:
        raise UsageError(
            f"--batch-size {training.batch_size} is larger than the {images} training images "
            f"of {training.dataset}: give a smaller one"
        )


def check_start(training: TrainingConfig) -> None:
    """Refuse what a training would fail at when it begins: its checkpoint and its classes."""
    if training.checkpoint:
        check_checkpoint(training.checkpoint)
    if training.chosen_classes:
        check_classes(training.chosen_classes, spec_of(training.dataset).classes, training.dataset)


def check_folder(folder: Path, option: str) -> None:
    """A UsageError if a folder could not be made and written; it is not made."""
    there = folder.absolute()
    while not there.exists() and there != there.parent:
        there = there.parent
    if not there.is_dir():
        raise UsageError(f"{option} {folder}: {there} is not a folder; choose another")
    if not os.access(there, os.W_OK | os.X_OK):
        raise UsageError(f"{option} {folder}: cannot write to {there}; choose another folder")
