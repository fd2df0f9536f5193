"""Whether the folder of a data set is there, asked before anything heavy is imported."""

import os
from collections.abc import Iterator
from pathlib import Path

from wash_bench.config import fingerprint
from wash_bench.data.catalog import FOLDER_PREFIX, spec_of
from wash_bench.data.prepared.index import is_prepared, read_index
from wash_bench.errors import UsageError


def check_place(dataset: str, data_dir: str | None) -> None:
    """A UsageError unless the images of a data set of class folders are there."""
    named = spec_of(dataset).root(data_dir)
    if not named:
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
    for part in ("train", "val"):
        if not (root / part).is_dir():
            raise UsageError(
                f"data set {dataset}: there is no folder {root / part}; "
                "a data set needs train/ and val/"
            )


def files_below(folder: Path) -> Iterator[Path]:
    """All files below a folder, links to folders followed, each folder once."""
    seen: set[tuple[int, int]] = set()
    for place, folders, names in os.walk(folder, followlinks=True):
        about = Path(place).stat()
        if (about.st_dev, about.st_ino) in seen:  # a link back up
            folders.clear()
            continue
        seen.add((about.st_dev, about.st_ino))
        yield from (Path(place, name) for name in names if Path(place, name).is_file())


def content_of(root: Path) -> str:
    """A fingerprint of the images of a folder: the names and sizes of its files."""
    if is_prepared(root):
        return read_index(root).content
    # The files are not read: a picture that is replaced by another of the same name and size in
    # bytes goes unnoticed.
    files = (path for part in ("train", "val") for path in files_below(root / part))
    listed = sorted((path.relative_to(root).as_posix(), path.stat().st_size) for path in files)
    return fingerprint(listed)
