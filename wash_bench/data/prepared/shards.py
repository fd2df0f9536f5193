"""Reads the images of a prepared folder through memory maps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from wash_bench.data.prepared.index import PARTS, Index, again, read_index
from wash_bench.errors import WashBenchError
from wash_bench.files import digest_of


class Shards:
    """The images of a prepared folder by row, training images first; can be sent to processes.

    Args:
        root: the prepared folder.

    Attributes:
        index: what it holds.
        labels: (n,) int64 classes by part.
        shapes: (n, 2) int64 heights and widths of all images.

    Raises:
        WashBenchError: a file is missing or not as it was written. Of the pixels only the sizes of
            the files are looked at; ``wash-bench prepare`` compares their bytes.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.index: Index = read_index(root)
        tables = [_table(root, part, self.index) for part in PARTS]
        self.labels = {part: table[:, 2] for part, table in zip(PARTS, tables, strict=True)}
        self.shapes = np.concatenate(tables)[:, :2]
        self._files = [shard.path(root) for shard in self.index.shards]
        self._first = np.cumsum([0, *(shard.images for shard in self.index.shards)])
        self._ends = np.cumsum(self.shapes.prod(axis=1) * 3)
        if self._first[-1] != len(self.shapes):
            raise WashBenchError(f"{root} lacks images; {again(root)}")
        for shard in self.index.shards:
            path = shard.path(root)
            if not path.is_file() or path.stat().st_size != shard.size:
                state = "is damaged" if path.exists() else "is missing"
                raise WashBenchError(f"{path} {state}; {again(root)}")
        self._maps: dict[int, np.ndarray] = {}

    def rows(self, part: str) -> range:
        """The rows of the images of one part."""
        before = len(self.labels["train"]) if part == "val" else 0
        return range(before, before + len(self.labels[part]))

    def open(self, row: int) -> Image.Image:
        """One image, in red, green and blue; an OSError if its shard is gone meanwhile."""
        shard = int(np.searchsorted(self._first, row, side="right")) - 1
        if shard not in self._maps:
            self._maps[shard] = np.memmap(self._files[shard], np.uint8, mode="r")
        height, width = self.shapes[row]
        first = self._first[shard]
        start = self._ends[row] - height * width * 3 - (self._ends[first - 1] if first else 0)
        values = self._maps[shard][start : start + height * width * 3]
        return Image.fromarray(values.reshape(height, width, 3))

    def __getstate__(self) -> dict[str, Any]:
        # A memory map would be sent as the bytes that it maps.
        return self.__dict__ | {"_maps": {}}


def _table(root: Path, part: str, index: Index) -> np.ndarray:
    """(n, 3) int64: heights, widths and labels of one part."""
    path = root / f"{part}.npy"
    try:
        if digest_of(path) != index.tables[part]:
            raise ValueError("its bytes are not those that were written")
        return np.load(path).astype(np.int64)
    except (OSError, ValueError, KeyError) as error:
        raise WashBenchError(f"cannot read {path}: {error}; {again(root)}") from None
