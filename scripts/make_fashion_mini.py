"""Cuts wash_bench/data/files/fashion_mini.npz out of Fashion-MNIST.

Takes the first 500 training and the first 100 test images of each class, in the original order.

Usage: python scripts/make_fashion_mini.py [FOLDER_WITH_IDX_FILES]
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from wash_bench.data.readers import DEBIAN_FOLDER, find_fashion, read_fashion

TARGET = Path(__file__).parent.parent / "wash_bench" / "data" / "files" / "fashion_mini.npz"
PER_CLASS = {"train": 500, "test": 100}


def first_of_each_class(labels: np.ndarray, count: int) -> np.ndarray:
    """Ascending indices of the first ``count`` images of every class."""
    return np.sort(np.concatenate([np.flatnonzero(labels == k)[:count] for k in range(10)]))


def main() -> None:
    given = Path(sys.argv[1]) if len(sys.argv) > 1 else DEBIAN_FOLDER
    folder = find_fashion(given, given, download=False)
    arrays = {}
    for split, count in PER_CLASS.items():
        images, labels = read_fashion(folder, split)
        chosen = first_of_each_class(labels, count)
        arrays[f"{split}_images"] = images[chosen]
        arrays[f"{split}_labels"] = labels[chosen]
    np.savez_compressed(TARGET, **arrays)
    sys.stdout.write(f"{TARGET}: {TARGET.stat().st_size:,} bytes\n")


if __name__ == "__main__":
    main()
