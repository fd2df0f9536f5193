"""Finds the images of a folder data set and checks what can be checked before training."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torchvision.datasets import ImageFolder
from torchvision.datasets.folder import IMG_EXTENSIONS

from wash_bench.data.pictures import rgb
from wash_bench.data.place import files_below
from wash_bench.data.prepared.index import PARTS, is_prepared
from wash_bench.data.prepared.shards import Shards
from wash_bench.data.readers import one_line
from wash_bench.errors import WashBenchError

# Opening every file costs about 0.1 ms each; larger sets are only checked as they are read.
HEADER_CHECK_LIMIT = 20_000
WHOLE_CHECK_LIMIT = 2_000  # test images; to decode one takes some milliseconds


Images = tuple[Sequence[Any], np.ndarray]  # what ``open`` takes, and (n,) int64 labels


def open_file(path: str) -> Image.Image:
    """An image file in red, green and blue."""
    with Image.open(path) as file:
        return rgb(file)


@dataclass(frozen=True, slots=True)
class Folders:
    """What a folder data set holds.

    Attributes:
        classes: names, sorted.
        train: paths and labels of the training images; of a prepared folder rows and labels.
        test: those of val/.
        open: gives the image of a path, or of a row.
    """

    classes: tuple[str, ...]
    train: Images
    test: Images
    open: Callable[[Any], Image.Image] = open_file


def scan(root: Path) -> Folders:
    """The images of ROOT/train/CLASS/* and ROOT/val/CLASS/*; a WashBenchError if there are none."""
    if is_prepared(root):
        shards = Shards(root)
        train, val = ((shards.rows(part), shards.labels[part]) for part in PARTS)
        return Folders(shards.index.classes, train, val, shards.open)
    if not root.is_dir():
        raise WashBenchError(f"there is no folder {root}; give the one that holds train/ and val/")
    parts = {part: _image_folder(root / part) for part in ("train", "val")}
    train, val = parts["train"], parts["val"]
    if difference := sorted(set(train.classes) ^ set(val.classes)):
        where = "train" if difference[0] in train.classes else "val"
        raise WashBenchError(
            f"train/ and val/ of {root} must have the same class folders, "
            f"but {difference[0]!r} is only in {where}/"
        )
    if len(train.classes) < 2:
        raise WashBenchError(f"{root} has a single class, {train.classes[0]!r}; two are needed")
    if len(train.samples) + len(val.samples) <= HEADER_CHECK_LIMIT:
        for path, _ in train.samples:
            _check(path, whole=False)
        for path, _ in val.samples:  # whatever is wrong with them would be told after the training
            _check(path, whole=len(val.samples) <= WHOLE_CHECK_LIMIT)
    return Folders(tuple(train.classes), _paths_and_labels(train), _paths_and_labels(val))


def _image_folder(folder: Path) -> ImageFolder:
    if not folder.is_dir():
        raise WashBenchError(f"there is no folder {folder}; a data set needs train/ and val/")
    names = sorted(entry.name for entry in folder.iterdir() if entry.is_dir())
    if not names:
        raise WashBenchError(f"{folder} has no class folders; put images into {folder}/CLASS/")
    for name in names:
        files = files_below(folder / name)
        if not any(path.suffix.lower() in IMG_EXTENSIONS for path in files):
            raise WashBenchError(
                f"class folder {folder / name} has no images; add some "
                f"({', '.join(IMG_EXTENSIONS[:4])}, ...) or remove the folder"
            )
    return ImageFolder(str(folder))


def _paths_and_labels(images: ImageFolder) -> tuple[list[str], np.ndarray]:
    paths, labels = zip(*images.samples, strict=True)
    return list(paths), np.array(labels, dtype=np.int64)


def _check(path: str, *, whole: bool) -> None:
    try:
        with Image.open(path) as image:
            if whole:
                image.load()
    except Exception as error:  # Pillow's plug-ins raise many kinds
        raise WashBenchError(broken_image(path, error)) from error


def broken_image(path: str, error: BaseException) -> str:
    """The error line for a file that does not decode."""
    return f"cannot read image {path}: {one_line(error)}; repair or remove the file"
