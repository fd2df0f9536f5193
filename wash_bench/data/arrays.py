"""Reads the small data sets into arrays.

The catalogue names one reader a data set. It is called with the folder of --data-dir, None without
one, and with whether files may be downloaded; what is missing or damaged is a WashBenchError whose
line names the fix.
"""

from __future__ import annotations

import os
from functools import partial
from importlib.resources import as_file, files
from pathlib import Path

import numpy as np

from wash_bench.data.fashion import find_fashion, one_line, read_fashion
from wash_bench.data.memory import Arrays
from wash_bench.data.splits import DIGITS_TEST, spread
from wash_bench.errors import WashBenchError

DIGITS_TEST_IMAGES = 397


def default_data_dir() -> Path:
    """Where downloads go unless --data-dir says otherwise."""
    cache = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(cache) / "wash-bench"


def read_digits(folder: Path | None, download: bool) -> Arrays:
    """scikit-learn's 1,797 digits, 1,400 to train and 397 to test, stratified and fixed."""
    from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)
    images = np.round(np.asarray(pixels).reshape(-1, 8, 8) * (255 / 16)).astype(np.uint8)
    labels = np.asarray(labels)
    test = spread(labels, DIGITS_TEST_IMAGES, DIGITS_TEST)
    train = np.setdiff1d(np.arange(len(images)), test)
    return Arrays((images[train], labels[train]), (images[test], labels[test]))


def read_fashion_mini(folder: Path | None, download: bool) -> Arrays:
    """The part of Fashion-MNIST that the package carries."""
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
    """The whole of Fashion-MNIST, wherever its files lie."""
    found = find_fashion(folder, default_data_dir(), download)
    return Arrays(read_fashion(found, "train"), read_fashion(found, "test"))


def _read_cifar(name: str, folder: Path | None, download: bool) -> Arrays:
    """CIFAR-10 or CIFAR-100 as torchvision reads (and checksums) it."""
    from torchvision import datasets

    title, root = name.replace("CIFAR", "CIFAR-"), folder or default_data_dir()
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


read_cifar10 = partial(_read_cifar, "CIFAR10")
read_cifar100 = partial(_read_cifar, "CIFAR100")
