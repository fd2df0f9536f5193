"""Readers of the small data sets. Numpy is imported by those who read (the catalogue is light)."""

from __future__ import annotations

import gzip
import os
import zlib
from importlib.resources import as_file, files
from pathlib import Path
from typing import TYPE_CHECKING

from wash_bench.errors import WashBenchError, one_line

if TYPE_CHECKING:
    import numpy as np


DIGITS_TEST_IMAGES = 397


class Arrays:
    """(n, H, W, C) uint8 images, the ``train`` training images first, and (n,) int64 labels."""

    def __init__(self, train: tuple[np.ndarray, ...], test: tuple[np.ndarray, ...]) -> None:
        import numpy as np

        images = np.concatenate([train[0], test[0]])
        self.images = images[..., None] if images.ndim == 3 else images
        self.labels = np.concatenate([train[1], test[1]]).astype(np.int64)
        self.train = len(train[0])


def default_data_dir() -> Path:
    """Where downloads go unless --data-dir says otherwise; a WashBenchError without a home."""
    try:
        cache = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    except RuntimeError:
        raise WashBenchError(
            "there is no home directory with a cache for data: give --data-dir"
        ) from None
    return Path(cache) / "wash-bench"


def read_digits(folder: Path | None, download: bool) -> Arrays:
    """The 1,797 digits, 1,400 to train and 397 to test, stratified and fixed."""
    import numpy as np

    from wash_bench.data.splits import DIGITS_TEST, spread

    # (1797, 65): the 64 pixels, 0 to 16, and the digit.
    with as_file(files("wash_bench") / "data" / "files" / "digits.csv.gz") as path:
        table = np.loadtxt(path, delimiter=",")
    pixels, labels = table[:, :-1], table[:, -1].astype(np.int64)
    images = np.round(pixels.reshape(-1, 8, 8) * (255 / 16)).astype(np.uint8)
    test = spread(labels, DIGITS_TEST_IMAGES, DIGITS_TEST)
    train = np.setdiff1d(np.arange(len(images)), test)
    return Arrays((images[train], labels[train]), (images[test], labels[test]))


def read_fashion_mini(folder: Path | None, download: bool) -> Arrays:
    """The part of Fashion-MNIST that the package carries."""
    import numpy as np

    with as_file(files("wash_bench") / "data" / "files" / "fashion_mini.npz") as path:
        try:
            with np.load(path) as part:
                return Arrays(
                    (part["train_images"], part["train_labels"]),
                    (part["test_images"], part["test_labels"]),
                )
        except (OSError, ValueError, KeyError) as error:
            raise WashBenchError(
                f"cannot read {path}: {one_line(error)}; install wash-bench again"
            ) from error


def read_fashion_mnist(folder: Path | None, download: bool) -> Arrays:
    """Fashion-MNIST's four idx files, wherever ``find_fashion`` finds them."""
    try:
        cache = default_data_dir()
    except WashBenchError:
        if folder is None:
            raise
        cache = folder
    found = find_fashion(folder, cache, download)
    return Arrays(read_fashion(found, "train"), read_fashion(found, "test"))


def read_cifar(name: str, folder: Path | None, download: bool) -> Arrays:
    """A CIFAR class of torchvision, which checks it; a WashBenchError says how to get it."""
    import numpy as np
    from torchvision import datasets

    root, title = folder or default_data_dir(), name.replace("CIFAR", "CIFAR-")
    parts = []
    for train in (True, False):
        try:
            part = getattr(datasets, name)(str(root), train=train, download=download)
        except Exception as error:  # a damaged pickle can raise anything
            if download:
                raise WashBenchError(
                    f"cannot download {title} into {root}: {one_line(error)}"
                ) from error
            raise WashBenchError(
                f"{title} is not in {root} or damaged ({one_line(error)}); give its folder with "
                "--data-dir, or add --download"
            ) from error
        parts.append((part.data, np.asarray(part.targets)))
    return Arrays(*parts)


DEBIAN_FOLDER = Path("/usr/share/datasets/fashion-mnist")
_STEMS = {
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}


def find_fashion(data_dir: Path | None, cache_dir: Path, download: bool) -> Path:
    """The folder with the four idx files; a WashBenchError says how to get them."""
    # Those of the user alone where they are named, in torchvision's layouts too; else the Debian
    # package's, then what torchvision downloaded earlier; else they are downloaded.
    candidates = _below(data_dir) if data_dir else [DEBIAN_FOLDER, *_below(cache_dir)]
    for folder in candidates:
        if all(_file(folder, stem) for stems in _STEMS.values() for stem in stems):
            return folder
    target = data_dir or cache_dir
    if not download:
        raise WashBenchError(
            f"Fashion-MNIST is not in {target}; add --download"
            if data_dir
            else f"Fashion-MNIST is neither in {target} nor in {DEBIAN_FOLDER}; "
            "apt-get install dataset-fashion-mnist, or add --download"
        )
    from torchvision.datasets import FashionMNIST

    try:
        FashionMNIST(str(target), download=True)
    except (OSError, RuntimeError) as error:
        raise WashBenchError(
            f"cannot download Fashion-MNIST into {target}: {one_line(error)}; "
            "apt-get install dataset-fashion-mnist also gives it"
        ) from error
    return target / "FashionMNIST" / "raw"


def read_fashion(folder: Path, split: str) -> tuple[np.ndarray, np.ndarray]:
    """(n, 28, 28) uint8 images and (n,) uint8 labels of ``train`` or ``test``."""
    images, labels = (read_idx(_file(folder, stem) or folder / stem) for stem in _STEMS[split])
    if images.ndim != 3 or labels.ndim != 1 or len(images) != len(labels):
        raise WashBenchError(f"the {split} images and labels in {folder} do not belong together")
    return images, labels


def read_idx(path: Path) -> np.ndarray:
    """An array of bytes in the idx format, gzipped or not; a WashBenchError if it is not."""
    import numpy as np

    try:
        raw = path.read_bytes()
        raw = gzip.decompress(raw) if path.suffix == ".gz" else raw
    except (OSError, EOFError, zlib.error) as error:
        raise WashBenchError(f"cannot read {path}: {one_line(error)}") from error
    # Bytes 0 and 1 are zero, byte 2 is the type (8: unsigned byte), byte 3 the number of axes;
    # the axes' lengths follow as big-endian 32-bit integers.
    axes = raw[3] if len(raw) > 3 and raw[:3] == b"\x00\x00\x08" else 0
    start = 4 + 4 * axes
    shape = tuple(np.frombuffer(raw[4:start], dtype=">u4").tolist()) if len(raw) >= start else ()
    if not axes or len(shape) != axes or len(raw) - start != int(np.prod(shape)):
        raise WashBenchError(f"{path} is damaged or no idx file of bytes; fetch it again")
    return np.frombuffer(raw, dtype=np.uint8, offset=start).reshape(shape)


def _below(root: Path) -> list[Path]:
    return [root, root / "FashionMNIST" / "raw", root / "raw"]


def _file(folder: Path, stem: str) -> Path | None:
    for name in (stem, stem + ".gz"):
        if (folder / name).is_file():
            return folder / name
    return None
