"""The published files of CIFAR-10-C and CIFAR-100-C: ``NAME.npy`` and ``labels.npy`` in a folder.

Each holds the 10,000 test images five times, severity 1 first, (50000, 32, 32, 3) uint8.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from wash_bench.errors import UsageError

SHAPE = (32, 32, 3)


class Published:
    """Corrupted test images from a folder, opened when they are asked for.

    A UsageError names the file that is missing, has another form, or whose labels are not those of
    the test images.

    Args:
        folder: with the files.
        names: the corruptions that will be asked for.
        labels: (M,) classes of the test images, in their order.
    """

    def __init__(self, folder: Path, names: Sequence[str], labels: np.ndarray) -> None:
        self._count = len(labels)
        told = _opened(folder / "labels.npy")
        if told.shape != (5 * self._count,) or not np.array_equal(told, np.tile(labels, 5)):
            raise UsageError(
                f"{folder / 'labels.npy'}: not the labels of these {self._count:,} test images five"
                " times; give the files of this data set, with all its classes"
            )
        self._files: Mapping[str, np.ndarray] = {}
        for name in names:
            path = folder / f"{name}.npy"
            file = _opened(path)
            if file.shape != (5 * self._count, *SHAPE) or file.dtype != np.uint8:
                raise UsageError(
                    f"{path}: holds {file.dtype} {file.shape}, not {5 * self._count:,} pictures of"
                    " 32 x 32 x 3 bytes"
                )
            self._files[name] = file

    def images(self, name: str, severity: int, positions: np.ndarray) -> np.ndarray:
        """(B, 32, 32, 3) uint8 of test images at some positions."""
        return self._files[name][(severity - 1) * self._count + positions]


def _opened(path: Path) -> np.ndarray:
    """An array file, not read yet; no pickle is ever loaded."""
    if not path.is_file():
        raise UsageError(f"{path} is not there: --corruption-dir wants NAME.npy and labels.npy")
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise UsageError(f"{path}: no array of numpy that can be read ({error})") from None
