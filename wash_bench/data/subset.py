"""A part of a data set's classes, relabelled from 0, as for pre-training on half of them."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from wash_bench.data.arrays import Arrays
    from wash_bench.data.scan import Folders, Images


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
