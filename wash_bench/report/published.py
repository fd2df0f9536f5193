"""The published numbers: ``published.csv`` of the package, and what a user adds to it.

A line is one number: paper, table, dataset, model, N, augment, method, metric, value, std, source,
evidence. Which cells a table has is declared in its TOML file; those without a line here are shown
as "not available", and a file of the user's with the same columns fills them. Accuracies are in
per cent. A value needs a source, in the package and from the user alike.
"""

import csv
import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from wash_bench.errors import UsageError

FILE = Path(__file__).resolve().parent / "published.csv"
COLUMNS = ("paper", "table", "dataset", "model", "N", "augment", "method", "metric", "value", "std",
           "source", "evidence")  # fmt: skip
KEY = ("paper", "table", "dataset", "model", "N", "augment", "method", "metric")


@dataclass(frozen=True)
class Published:
    """One line; ``N`` and ``std`` are None where the source does not tell them."""

    paper: str
    table: str
    dataset: str
    model: str
    N: int | None
    augment: str
    method: str
    metric: str
    value: float
    std: float | None
    source: str
    evidence: str

    @property
    def key(self) -> tuple[object, ...]:
        """What the number is of."""
        return tuple(getattr(self, name) for name in KEY)

    @property
    def text(self) -> str:
        """The value as it was printed in the source's decimals, with its deviation."""
        return f"{self.value:g}" + (f" ± {self.std:g}" if self.std is not None else "")


def read_published(own: Path | None = None) -> list[Published]:
    """The package's lines; those of the user's file replace, or join, them.

    Args:
        own: a CSV with the same columns; ``std`` and ``evidence`` may be missing. A file that
            cannot be read, lacks a column, or has a value that is no number or without a source is
            a UsageError that names the line.

    Returns:
        The lines that have a value.
    """
    lines = {line.key: line for line in _read(FILE)}
    if own is not None:
        lines |= {line.key: line for line in _read(own)}
    return list(lines.values())


def find(
    lines: Iterable[Published], paper: str, table: str, n: int, augment: str, method: str,
    metric: str,
) -> Published | None:  # fmt: skip
    """The published number of one cell of a table; None where it is not available."""
    wanted = (paper.lower(), table, n, augment, method, metric)
    for line in lines:
        own = (line.paper.lower(), line.table, line.N, line.augment, line.method, line.metric)
        if own == wanted:
            return line
    return None


def _read(path: Path) -> list[Published]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            missing = {*COLUMNS} - {"std", "evidence"} - {*(reader.fieldnames or ())}
            if missing:
                raise UsageError(
                    f"{path} lacks the column{'s' if len(missing) > 1 else ''}"
                    f" {', '.join(sorted(missing))}; it needs {','.join(COLUMNS)}"
                )
            return [
                _line(path, reader.line_num, row) for row in reader if (row["value"] or "").strip()
            ]
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}; check the path") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise UsageError(f"{path} is no CSV file in UTF-8: {error}") from None


def _line(path: Path, place: int, row: dict[str, str | None]) -> Published:
    text = {name: (row.get(name) or "").strip() for name in COLUMNS}
    members, number, deviation = (text.pop(name) for name in ("N", "value", "std"))
    try:
        n = int(members) if members else None
        value, std = float(number), float(deviation) if deviation else None
        if not math.isfinite(value) or not math.isfinite(std or 0):
            raise ValueError
    except ValueError:
        raise UsageError(
            f"{path}, line {place}: N, value and std must be numbers or empty"
        ) from None
    if not text["source"]:
        raise UsageError(f"{path}, line {place}: a value needs its source")
    return Published(N=n, value=value, std=std, **text)
