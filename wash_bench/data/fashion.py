"""Fashion-MNIST's files: the idx format, and where they may lie."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

from wash_bench.errors import WashBenchError

if TYPE_CHECKING:
    import numpy as np

DEBIAN_FOLDER = Path("/usr/share/datasets/fashion-mnist")
_STEMS = {
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}


def find_fashion(data_dir: Path | None, cache_dir: Path, download: bool) -> Path:
    """The folder with the four idx files; a WashBenchError says how to get them."""
    # First those of the user, in torchvision's layouts too; then the Debian package's; then what
    # torchvision downloaded earlier, or downloads now.
    roots = [data_dir] if data_dir else []
    candidates = [folder for root in [*roots, cache_dir] for folder in _below(root)]
    candidates.insert(len(_below(data_dir)) if data_dir else 0, DEBIAN_FOLDER)
    for folder in candidates:
        if all(_file(folder, stem) for stems in _STEMS.values() for stem in stems):
            return folder
    target = data_dir or cache_dir
    if not download:
        raise WashBenchError(
            f"Fashion-MNIST is neither in {target} nor in {DEBIAN_FOLDER}; "
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


def one_line(error: BaseException) -> str:
    """The error's first line, or its kind if it has no text."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _below(root: Path) -> list[Path]:
    return [root, root / "FashionMNIST" / "raw", root / "raw"]


def _file(folder: Path, stem: str) -> Path | None:
    for name in (stem, stem + ".gz"):
        if (folder / name).is_file():
            return folder / name
    return None
