"""What a report is made of, as digests: of the records, of the code that reads them, of a frame."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

from wash_bench.files import regular
from wash_bench.plugins.registry import method_names
from wash_bench.record.folders import run_folders

if TYPE_CHECKING:
    import pandas as pd

_OF_CELLS = ("cells/*.json",)
_OF_TRAININGS = (
    *("environment.json", "events.jsonl", "barrier*.csv", "simplex*.csv", "corruption*.csv"),
    *("status.json", "evaluation-*.json"),  # for the checksums of the others
    "outcomes-*.npz",
)
_PACKAGES = ("wash-bench", "matplotlib", "pandas", "numpy", "scipy", "statsmodels")


def of_records(roots: Sequence[Path]) -> str:
    """A digest of all files of run folders that a report reads, their names included."""
    total = hashlib.blake2b(digest_size=16)
    for root in map(Path, roots):
        total.update(f"root {root}\n".encode(errors="surrogateescape"))
        for folder in run_folders(root):
            for path in _read(folder):
                name = path.relative_to(root).as_posix()
                total.update(f"{name} {of_file(path)}\n".encode(errors="surrogateescape"))
    return total.hexdigest()


def of_file(path: Path) -> str:
    """A digest of a file's bytes; ``folder`` or ``none`` where there are none to read."""
    try:
        return hashlib.blake2b(regular(path).read_bytes(), digest_size=16).hexdigest()
    except OSError:
        return "folder" if path.is_dir() else "none"


@cache
def of_code() -> str:
    """A digest of what else decides a report: its code, versions, and the installed methods."""
    total = hashlib.blake2b(digest_size=16)
    here = Path(__file__).parent
    for path in (*sorted(here.rglob("*.*")), here.with_name("metrics.py")):
        if path.suffix != ".pyc":
            total.update(f"{path.name} {of_file(path)}\n".encode())
    versions = [f"{name} {_version(name)}" for name in _PACKAGES]
    total.update("\n".join([*versions, *method_names()]).encode())
    return total.hexdigest()


def of_frames(frames: Iterable[pd.DataFrame]) -> str:
    """A digest of tables: their columns, in order, and all values, row by row."""
    from pandas.util import hash_pandas_object

    total = hashlib.blake2b(digest_size=16)
    for frame in frames:
        total.update(f"{len(frame)} {list(frame.columns)}\n".encode())
        total.update(hash_pandas_object(frame, index=False).to_numpy().tobytes())
    return total.hexdigest()


def _read(folder: Path) -> Iterator[Path]:
    """The files that a report reads of a run folder, and the training folders, which it names."""
    for pattern in _OF_CELLS:
        yield from sorted(folder.glob(pattern))
    for training in sorted((folder / "trainings").glob("*")):
        yield training
        for pattern in _OF_TRAININGS:
            yield from sorted(training.glob(pattern))


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""
