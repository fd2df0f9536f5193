"""Reads the small data sets into arrays."""

from __future__ import annotations

import os
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


def read_arrays(name: str, data_dir: str | None, download: bool) -> Arrays:
    """The images and labels of one of the small sets.

    Raises:
        WashBenchError: the data are not there or damaged; the line names the fix.
    """
    folder = Path(data_dir).expanduser() if data_dir else None
    match name:
        case "digits":
            return read_digits()
        case "fashion-mini":
            return read_fashion_mini()
        case "fashion-mnist":
            found = find_fashion(folder, default_data_dir(), download)
            return Arrays(read_fashion(found, "train"), read_fashion(found, "test"))
        case "cifar10" | "cifar100":
            return read_cifar(name, folder or default_data_dir(), download)
    raise ValueError(f"{name} is not a data set of arrays")


def read_digits() -> Arrays:
    """scikit-learn's 1,797 digits, 1,400 to train and 397 to test, stratified and fixed."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = np.round(digits.images * (255 / 16)).astype(np.uint8)
    test = spread(digits.target, DIGITS_TEST_IMAGES, DIGITS_TEST)
    train = np.setdiff1d(np.arange(len(images)), test)
    return Arrays(
        (images[train], digits.target[train]),
        (images[test], digits.target[test]),
    )


def read_fashion_mini() -> Arrays:
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


def read_cifar(name: str, root: Path, download: bool) -> Arrays:
    """CIFAR-10 or CIFAR-100 as torchvision reads (and checksums) it."""
    from torchvision import datasets

    dataset_class = {"cifar10": datasets.CIFAR10, "cifar100": datasets.CIFAR100}[name]
    title = "CIFAR-10" if name == "cifar10" else "CIFAR-100"
    parts = []
    for train in (True, False):
        try:
            part = dataset_class(str(root), train=train, download=download)
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
