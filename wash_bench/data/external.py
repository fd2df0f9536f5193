"""Data sets that lie in no class folders: what there is, and what identifies it; nothing heavy.

``tar:PATH`` (or ``wds:PATH``) has train.tar and val.tar, or shards train-*.tar and val-*.tar, or
folders train/ and val/ of tar files. Images are named CLASS/NAME, or KEY.jpg with KEY.cls beside
it, as WebDataset writes them. ``hfds/NAME`` is a data set of the Hugging Face hub, ``hfds//PATH``
one on the disk (parquet, arrow, image folder). ``torch/NAME`` is torchvision's.
``FILE.py:FUNCTION`` calls ``FUNCTION(split)`` for ``train`` and ``val``, which gives a map-style
``torch.utils.data.Dataset`` of (PIL image or uint8 tensor, label).
"""

from __future__ import annotations

import os
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path, PurePosixPath

from wash_bench.config import fingerprint
from wash_bench.data.catalog import HUB, TAR_PREFIXES
from wash_bench.data.paths import ENDINGS, TEST_PARTS
from wash_bench.errors import UsageError, WashBenchError, one_line
from wash_bench.python_file import digest_in_file, is_in_file, read_source

WHAT = "data file"


def check_external(dataset: str) -> None:
    """Refuse, as a UsageError and without reading images, a data set that is not there."""
    if is_in_file(dataset):
        read_source(Path(dataset.rpartition(":")[0]).expanduser(), WHAT)
    elif dataset.startswith(TAR_PREFIXES):
        _tar_files(tar_root(dataset), "train")
    elif (path := local_hub(dataset)) is not None and not path.exists():
        raise UsageError(f"data set {dataset}: there is no folder {path}")


def external_content(dataset: str) -> tuple[str, str]:
    """Return what identifies a data set wherever its files lie: its kind or name, and content."""
    if is_in_file(dataset):
        return "file", digest_in_file(dataset, WHAT)
    if dataset.startswith(TAR_PREFIXES):
        members = [tar_members(tar_root(dataset), names) for names in (("train",), TEST_PARTS)]
        return TAR_PREFIXES[0], fingerprint(
            [
                (part, item.label, item.name, item.size)
                for part, items in zip(("train", "val"), members, strict=True)
                for item in items
            ]
        )
    if (path := local_hub(dataset)) is not None:
        files = sorted(file for file in path.rglob("*") if file.is_file())
        listed = [(file.relative_to(path).as_posix(), file.stat().st_size) for file in files]
        return HUB, fingerprint(listed)
    return dataset, ""


@dataclass(frozen=True, slots=True)
class Member:
    """An image in a tar file: where its bytes begin, and how many there are."""

    label: str
    name: str
    file: str
    offset: int
    size: int

    def __str__(self) -> str:
        return f"{self.label}/{self.name} in {self.file}"


def tar_root(dataset: str) -> Path:
    """Return the folder with the tar files."""
    return Path(dataset.partition(":")[2]).expanduser()


def _tar_files(root: Path, *names: str) -> list[Path]:
    """The tar files of the first of some parts that is there; a UsageError if none is."""
    for name in names:
        found = [
            *root.glob(f"{name}.tar"),
            *root.glob(f"{name}-*.tar"),
            *root.glob(f"{name}/*.tar"),
        ]
        if found:
            return sorted(found)
    raise UsageError(
        f"there is no {root / names[0]}.tar, no {names[0]}-*.tar and no {names[0]}/*.tar; a data "
        "set of tar files needs train and val"
    )


def tar_members(root: Path, names: Sequence[str]) -> list[Member]:
    """The images of a part, in the order of a class folder's."""
    files = [(file, file.stat()) for file in _tar_files(root, *names)]
    found = [
        item for file, about in files for item in _read(file, about.st_size, about.st_mtime_ns)
    ]
    return sorted(found, key=lambda item: (item.label, *os.path.split(item.name)))


@cache  # ids and the loader both ask, and to read a large file's headers takes minutes
def _read(file: Path, size: int, written: int) -> tuple[Member, ...]:
    """The images of a tar file of ``size`` bytes, ``written`` at a time."""
    images: dict[str, tarfile.TarInfo] = {}
    classes: dict[str, str] = {}
    try:
        with tarfile.open(file, "r:") as tar:
            for item in tar:
                path = PurePosixPath(item.name)
                key = str(path.with_suffix(""))
                if item.isfile() and path.suffix.lower() in ENDINGS:
                    images[key] = item
                elif item.isfile() and path.suffix == ".cls":
                    text = tar.extractfile(item)
                    classes[key] = text.read().decode().strip() if text else ""
    except (tarfile.TarError, OSError, UnicodeDecodeError) as error:
        raise WashBenchError(f"cannot read {file}: {one_line(error)}; write it anew") from None
    found = []
    for key, item in images.items():
        if item.offset_data + item.size > size:
            raise WashBenchError(f"{file} ends within {item.name}; write it anew")
        name = item.name.removeprefix("./")
        label, _, below = name.partition("/")
        if classes:
            label, below = classes.get(key, ""), name
        if not label or not below:
            wanted = "file KEY.cls beside it" if classes else "folder of its class above it"
            raise WashBenchError(f"{file}: {item.name} has no {wanted}")
        found.append(Member(label, below, str(file), item.offset_data, item.size))
    return tuple(found)


def local_hub(dataset: str) -> Path | None:
    """The folder of a Hugging Face data set on the disk; None if it is of the hub."""
    name = dataset.removeprefix(HUB)
    return Path(name) if dataset.startswith(HUB) and name.startswith(("/", ".")) else None
