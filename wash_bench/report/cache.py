"""The cache of reports: one whose records, code and options are the same is not made again.

``.made.json`` in the report's folder holds the digests, and the tables to print.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from wash_bench.files import regular, write_text
from wash_bench.plugins.registry import method_names
from wash_bench.record.folders import run_folders
from wash_bench.report.tables.table import Table, TableCell

NAME = ".made.json"
# What a report reads of a training, and the files with the checksums of the others.
_TRAINING_FILES = (
    *("environment.json", "events.jsonl", "barrier*.csv", "simplex*.csv", "corruption*.csv"),
    *("status.json", "evaluation-*.json", "outcomes-*.npz"),
)
_PACKAGES = ("wash-bench", "matplotlib", "pandas", "numpy", "scipy", "statsmodels")


@dataclass
class CacheManifest:
    """What a report was made of.

    Attributes:
        source: digest of records, code and options.
        files: digests of the report's files by name, in the order in which they are listed.
        tables: the tables that are printed.
        warnings: what could not be read.
    """

    source: str = ""
    files: dict[str, str] = field(default_factory=dict)
    tables: list[Table] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    @classmethod
    def read(cls, folder: Path) -> CacheManifest:
        """Read a report's manifest; an empty one where there is none, or an unknown one."""
        try:
            data = json.loads((folder / NAME).read_text(encoding="utf-8"))
            tables = [
                Table(**{**each, "rows": [[TableCell(**e) for e in row] for row in each["rows"]]})
                for each in data["tables"]
            ]
            return cls(str(data["source"]), dict(data["files"]), tables, list(data["warnings"]))
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            return cls()

    def write(self, folder: Path) -> None:
        """Write the manifest into the report's folder."""
        write_text(folder / NAME, json.dumps(asdict(self), ensure_ascii=False, indent=1) + "\n")

    def is_current(self, folder: Path, source: str) -> bool:
        """Return whether the folder holds the report of this source, each file as written."""
        return self.source == source and not any(self.changed(folder, name) for name in self.files)

    def owns(self, folder: Path, name: str) -> bool:
        """Return whether a file is the report's; with a damaged manifest all of its names are."""
        return name in self.files or (not self.files and (folder / NAME).exists())

    def changed(self, folder: Path, name: str) -> bool:
        """Return whether a file is none of the report's, or was changed or removed since."""
        return file_digest(folder / name) != self.files.get(name)


def records_digest(roots: Sequence[Path]) -> str:
    """Digest all files of run folders that a report reads, with their names."""
    total = hashlib.blake2b(digest_size=16)
    for root in map(Path, roots):
        total.update(f"root {root}\n".encode(errors="surrogateescape"))
        for folder in run_folders(root):
            for path in _files(folder):
                name = path.relative_to(root).as_posix()
                total.update(f"{name} {file_digest(path)}\n".encode(errors="surrogateescape"))
    return total.hexdigest()


def _files(folder: Path) -> Iterator[Path]:
    """Yield what a report reads of a run folder, and the training folders, which it names."""
    yield from sorted(folder.glob("cells/*.json"))
    for training in sorted((folder / "trainings").glob("*")):
        yield training
        for pattern in _TRAINING_FILES:
            yield from sorted(training.glob(pattern))


def file_digest(path: Path) -> str:
    """Digest a file's bytes; ``folder`` or ``none`` where there are none to read."""
    try:
        return hashlib.blake2b(regular(path).read_bytes(), digest_size=16).hexdigest()
    except OSError:
        return "folder" if path.is_dir() else "none"


@cache
def code_digest() -> str:
    """Digest what else decides a report: its code, versions, and the installed methods."""
    total = hashlib.blake2b(digest_size=16)
    here = Path(__file__).parent
    for path in (*sorted(here.rglob("*.*")), here.with_name("metrics.py")):
        if path.suffix != ".pyc":
            total.update(f"{path.name} {file_digest(path)}\n".encode())
    versions = [f"{name} {_version(name)}" for name in _PACKAGES]
    total.update("\n".join([*versions, *method_names()]).encode())
    return total.hexdigest()


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""
