"""The images of class folders: where they are and their fingerprint; imports nothing heavy."""

from __future__ import annotations

import os
import unicodedata
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from wash_bench.config import fingerprint
from wash_bench.data.catalog import FOLDER_PREFIX, HUB, TAR_PREFIXES, spec_of
from wash_bench.data.prepared.index import is_prepared, read_index
from wash_bench.errors import UsageError, WashBenchError, note
from wash_bench.python_file import is_in_file

TEST_PARTS = ("val", "valid", "validation", "test", "eval")
"""What the folder of the test images may be called; the first that is there is used."""
ENDINGS = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")
"""Of image files, as torchvision's ``ImageFolder`` takes them."""
_BESIDE = frozenset(
    (".txt", ".md", ".json", ".csv", ".xml", ".db", ".ini", ".html", ".yaml", ".yml", ".lnk")
)  # files that lie beside images and that nobody takes for one

nfc = partial(unicodedata.normalize, "NFC")


@dataclass(frozen=True)
class Part:
    """The image files of one part of a data set.

    Attributes:
        folder: the part's folder.
        images: paths by class, classes and paths in the order of torchvision's ``ImageFolder``.
            Hidden files and folders are no images.
        left_out: how many files have an ending that is none of an image's, by ending.
    """

    folder: Path
    images: dict[str, list[str]]
    left_out: Counter[str] = field(default_factory=Counter)


def test_part(root: Path) -> str:
    """Return the name of the folder with the test images; a WashBenchError if there is none."""
    for name in TEST_PARTS:
        if (root / name).is_dir():
            return name
    raise WashBenchError(
        f"there is no folder {root / TEST_PARTS[0]}; a data set needs train/ and val/ (or "
        f"{', '.join(f'{name}/' for name in TEST_PARTS[1:])})"
    )


def parts_of(root: Path) -> tuple[Part, Part]:
    """List the training and the test images of a folder; a WashBenchError if one is not there."""
    if not root.is_dir():
        raise WashBenchError(f"there is no folder {root}; give the one that holds train/ and val/")
    if not (root / "train").is_dir():
        raise WashBenchError(f"there is no folder {root / 'train'}; a data set needs train/")
    return _part(root / "train"), _part(root / test_part(root))


def class_folders(root: Path) -> tuple[str, ...]:
    """Return the classes of a data set, in the order of its labels; empty if there are none."""
    if is_prepared(root):
        return read_index(root).classes
    return _classes_in(root / "train") if (root / "train").is_dir() else ()


def _classes_in(part: Path) -> tuple[str, ...]:
    entries = (entry for entry in os.scandir(part) if entry.is_dir())
    return tuple(sorted(entry.name for entry in entries if not entry.name.startswith(".")))


def _part(folder: Path) -> Part:
    part = Part(folder, {})
    for name in _classes_in(folder):
        listed = part.images[name] = []
        for place, names in sorted(_folders_below(folder / name)):
            for file in sorted(names):
                ending = Path(file).suffix.lower()
                if ending in ENDINGS:
                    listed.append(f"{place}{os.sep}{file}")
                elif ending not in _BESIDE:
                    part.left_out[ending] += 1
    return part


def _folders_below(folder: Path, *, hidden: bool = False) -> Iterator[tuple[str, list[str]]]:
    """All folders below one with their files, links followed, each folder once."""
    seen: set[tuple[int, int]] = set()
    for place, folders, names in os.walk(folder, followlinks=True):
        about = Path(place).stat()
        if (about.st_dev, about.st_ino) in seen:  # a link back up
            folders.clear()
            continue
        seen.add((about.st_dev, about.st_ino))
        folders[:] = [name for name in folders if hidden or not name.startswith(".")]
        yield place, [name for name in names if hidden or not name.startswith(".")]


def near(name: str, place: Path) -> str:
    """Return a data set or a network as it is named from here, where a relative path was recorded.

    It is looked for from the working directory, then from the folders above ``place``, below which
    the record is: the one in which the command was given is most likely among them.
    """
    prefixes = (FOLDER_PREFIX, *TAR_PREFIXES, f"{HUB}.", "transformers:")
    before = next((prefix for prefix in prefixes if name.startswith(prefix)), "").rstrip(".")
    text, after = name.removeprefix(before), ""
    if is_in_file(name):
        text, colon, function = name.rpartition(":")
        after = colon + function
    elif not before:
        return name
    path = Path(text).expanduser()
    if path.is_absolute() or path.exists():
        return name
    above = (folder / path for folder in place.resolve().parents)
    found = next((path for path in above if path.exists()), None)
    return f"{before}{found}{after}" if found else name


def check_place(dataset: str, data_dir: str | None) -> None:
    """A UsageError unless the images of a data set of class folders are there."""
    spec = spec_of(dataset)
    if data_dir and dataset.startswith(FOLDER_PREFIX):
        raise UsageError(
            f"--data-dir {data_dir}: {dataset} says where its images are; give one of the two"
        )
    if data_dir and spec.bundled:
        note(f"--data-dir is not used: the images of {dataset} come with a package")
    if not (named := spec.root(data_dir)):
        return  # the loader tells: a preset may be read before anybody says where the data lie
    root = Path(named).expanduser()
    if not root.is_dir():
        raise UsageError(f"data set {dataset}: there is no folder {root}")
    if is_prepared(root):
        if not dataset.startswith(FOLDER_PREFIX) and (side := read_index(root).side):
            raise UsageError(
                f"data set {dataset}: the images of {root} were resized to {side} px, which makes "
                f"another data set: --dataset {FOLDER_PREFIX}{root}"
            )
        return
    try:
        if not (root / "train").is_dir():
            raise WashBenchError(
                f"there is no folder {root / 'train'}; a data set needs train/ and val/"
            )
        test_part(root)
    except WashBenchError as error:
        raise UsageError(f"data set {dataset}: {error}") from None


def content_of(root: Path) -> str:
    """Return the fingerprint of a folder's images: part, class, name below the class and size.

    Other files do not count, nor does the path or what the folder of the test images is called.
    """
    if is_prepared(root):
        return read_index(root).content
    # The files are not read: a picture that is replaced by another of the same name and size in
    # bytes goes unnoticed.
    return fingerprint(
        [
            (name, label, Path(path).relative_to(part.folder / label).as_posix(), _size(path))
            for name, part in zip(("train", "val"), parts_of(root), strict=True)
            for label, paths in part.images.items()
            for path in paths
        ]
    )


def earlier_content_of(root: Path) -> str:
    """Return the fingerprint in records of 0.1.0: the names and sizes of all files."""
    if is_prepared(root):
        return read_index(root).content
    files = [
        Path(place, name)
        for part in ("train", "val")
        for place, names in _folders_below(root / part, hidden=True)
        for name in names
    ]
    listed = [(p.relative_to(root).as_posix(), p.stat().st_size) for p in files if p.is_file()]
    return fingerprint(sorted(listed))


def _size(path: str) -> int:
    try:
        return Path(path).stat().st_size
    except OSError:  # a link to nowhere, which reading names
        return -1
