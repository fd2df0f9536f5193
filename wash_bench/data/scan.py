"""Finds the images of a folder data set and checks what can be checked before training."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from wash_bench.data.image import opened, rgb, top_of
from wash_bench.data.paths import ENDINGS, TEST_PARTS, Part, nfc, parts_of
from wash_bench.data.prepared.index import PARTS, is_prepared
from wash_bench.data.prepared.shards import Shards
from wash_bench.errors import WashBenchError, one_line

# Opening every file costs about 0.1 ms each; larger sets are only checked as they are read.
HEADER_CHECK_LIMIT = 20_000
SAMPLED = 2_000  # of larger sets, the files that are looked at for their depth
WHOLE_CHECK_LIMIT = 2_000  # test images; to decode one takes some milliseconds


Images = tuple[Sequence[Any], np.ndarray]  # what ``open`` takes, and (n,) int64 labels


def open_file(path: str, top: int = 0) -> Image.Image:
    """Read an image file in red, green and blue; ``top`` as in ``rgb``."""
    with opened(path) as file:
        return rgb(file, top)


@dataclass(frozen=True, slots=True)
class Folders:
    """What a folder data set holds.

    Attributes:
        classes: names, sorted.
        train: paths and labels of the training images; of a prepared folder rows and labels.
        test: those of the test images.
        open: gives the image of a path, or of a row.
        notes: lines for the user.
    """

    classes: tuple[str, ...]
    train: Images
    test: Images
    open: Callable[[Any], Image.Image] = open_file
    notes: tuple[str, ...] = ()


def scan(root: Path) -> Folders:
    """The images of ROOT/train/CLASS/* and ROOT/val/CLASS/*; a WashBenchError if there are none."""
    if is_prepared(root):
        shards = Shards(root)
        train, val = ((shards.rows(part), shards.labels[part]) for part in PARTS)
        return Folders(shards.index.classes, train, val, shards.open)
    parts = train, test = parts_of(root)
    for part in parts:
        _check_part(part)
    classes = tuple(train.images)
    label_of = {nfc(name): label for label, name in enumerate(classes)}
    if difference := sorted(label_of.keys() ^ {nfc(name) for name in test.images}):
        where = train if difference[0] in label_of else test
        raise WashBenchError(
            f"train/ and {test.folder.name}/ of {root} must have the same class folders, "
            f"but {difference[0]!r} is only in {where.folder.name}/"
        )
    if len(classes) < 2:
        raise WashBenchError(
            f"{root} has a single class, {next(iter(train.images))!r}; two are needed"
        )
    train_images, test_images = (_paths_and_labels(part, label_of) for part in parts)
    deep: list[str] = []
    if len(train_images[0]) + len(test_images[0]) <= HEADER_CHECK_LIMIT:
        # Whatever is wrong with test images would be told after the training.
        whole = len(test_images[0]) <= WHOLE_CHECK_LIMIT
        deep += [path for path in train_images[0] if _check(path, whole=False)]
        deep += [path for path in test_images[0] if _check(path, whole=whole)]
    else:
        every = [*train_images[0], *test_images[0]]
        deep += [path for path in every[:: len(every) // SAMPLED + 1] if _is_deep(path)]
    open_image = partial(open_file, top=top_of(deep)) if deep else open_file
    return Folders(classes, train_images, test_images, open_image, tuple(_notes(root, parts)))


def _check_part(part: Part) -> None:
    """Refuse a part without classes, with an empty one, or with two of one name."""
    if not part.images:
        raise WashBenchError(
            f"{part.folder} has no class folders; put images into {part.folder}/CLASS/"
        )
    named: dict[str, str] = {}
    for name, paths in part.images.items():
        if nfc(name) in named:
            raise WashBenchError(
                f"{part.folder} has two class folders {name!r}, whose names differ in their "
                "Unicode form only; put their images into one"
            )
        named[nfc(name)] = name
        if not paths:
            raise WashBenchError(
                f"class folder {part.folder / name} has no images; add some "
                f"({', '.join(ENDINGS[:4])}, ...) or remove the folder"
            )


def _notes(root: Path, parts: Sequence[Part]) -> list[str]:
    notes = []
    for part in parts:
        if count := part.left_out.total():
            kinds = ", ".join(
                f"{number} {ending or 'without an ending'}"
                for ending, number in part.left_out.most_common(4)
            )
            notes.append(
                f"{part.folder}: {count:,} file{'s' if count > 1 else ''} left out, which do not "
                f"end as images do ({kinds}); images are {', '.join(ENDINGS)}"
            )
    name = parts[1].folder.name
    others = [f"{other}/" for other in TEST_PARTS if other != name and (root / other).is_dir()]
    if others or name != TEST_PARTS[0]:
        unread = f"; {' and '.join(others)} not read" if others else ""
        notes.append(f"{root}: the test images are those of {name}/{unread}")
    return notes


def _paths_and_labels(part: Part, label_of: dict[str, int]) -> tuple[list[str], np.ndarray]:
    """Paths and (n,) labels, in the order of the labels."""
    by_label = sorted((label_of[nfc(name)], paths) for name, paths in part.images.items())
    labels = np.repeat(
        np.array([label for label, _ in by_label], dtype=np.int64),
        [len(paths) for _, paths in by_label],
    )
    return [path for _, paths in by_label for path in paths], labels


def _is_deep(path: str) -> bool:
    try:
        return _check(path, whole=False)
    except WashBenchError:  # named when it is read
        return False


def _check(path: str, *, whole: bool) -> bool:
    """Refuse a file that is no image; return whether it has grey values of 16 or 32 bits."""
    try:
        with opened(path) as image:
            if whole:
                image.load()
            return image.mode.startswith("I")
    except Exception as error:  # Pillow's plug-ins raise many kinds
        raise WashBenchError(broken_image(path, error)) from error


def broken_image(path: str, error: BaseException) -> str:
    """The error line for a file that does not decode."""
    return f"cannot read image {path}: {one_line(error)}; repair or remove the file"
