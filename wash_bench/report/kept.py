"""What a report was made of, kept beside it: one whose records have not changed is not made again.

``.made.json`` in the report's folder says it: digests of the records, of the files written, of what
each figure was drawn from, and the tables that are printed.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from wash_bench.files import write_text
from wash_bench.report.inputs import of_file
from wash_bench.report.tables.table import Table, TableCell

NAME = ".made.json"


@dataclass
class Made:
    """A report that was made.

    Attributes:
        source: digest of records, code and what was asked for.
        files: digests of the files by name, in the order in which they are told.
        figures: what each figure was drawn from, by stem; those that gave no figure too.
        tables: the main tables, as they are printed.
        warnings: what could not be read.
    """

    source: str = ""
    files: dict[str, str] = field(default_factory=dict)
    figures: dict[str, str] = field(default_factory=dict)
    tables: list[Table] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def holds(self, folder: Path, source: str) -> bool:
        """Whether a report of this source is in the folder, every file as it was written."""
        return self.source == source and self.untouched(folder, *self.files)

    def untouched(self, folder: Path, *names: str) -> bool:
        """Whether the report has these files, as they were written."""
        return all(name in self.files for name in names) and all(
            of_file(folder / name) == self.files[name] for name in names
        )


class Drawn:
    """The figures of the report before, for those that would be drawn from the same again.

    Args:
        folder: where that report is.
        before: what it was made of.

    Attributes:
        sources: what each figure of the new report is drawn from, by stem.
    """

    def __init__(self, folder: Path, before: Made) -> None:
        self.folder = folder
        self.before = before
        self.sources: dict[str, str] = {}

    def take(self, stem: str, source: str, out: Path, forms: Sequence[str]) -> list[Path] | None:
        """Copy a figure's files, of these forms, into ``out``; None if it must be drawn."""
        self.sources[stem] = source
        names = [f"{stem}.{form}" for form in forms]
        if self.before.figures.get(stem) != source:
            return None
        if not any(name in self.before.files for name in names):
            return []  # it gave no figure
        if not self.before.untouched(self.folder, *names):
            return None
        return [Path(shutil.copy2(self.folder / name, out / name)) for name in names]


def read(folder: Path) -> Made:
    """What the report in a folder was made of; of an unknown one, or none, nothing is known."""
    try:
        data = json.loads((folder / NAME).read_text(encoding="utf-8"))
        tables = [_table(entry) for entry in data["tables"]]
        return Made(
            str(data["source"]),
            dict(data["files"]),
            dict(data["figures"]),
            tables,
            list(data["warnings"]),
        )
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return Made()


def write(folder: Path, made: Made) -> None:
    """Say what the report in a folder was made of."""
    write_text(folder / NAME, json.dumps(asdict(made), ensure_ascii=False, indent=1) + "\n")


def forget(folder: Path) -> None:
    """Before files are replaced: of a report that is half an older one nothing is known."""
    (folder / NAME).unlink(missing_ok=True)


def _table(data: Mapping[str, Any]) -> Table:
    rows = [[TableCell(**cell) for cell in row] for row in data["rows"]]
    return Table(**{**data, "rows": rows})
