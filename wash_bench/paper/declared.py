"""Tables as data: the TOML files of ``wash_bench/paper/tables``, read and checked.

A table has a title, the papers whose numbers stand beside ours, the metrics that are its columns,
its rows, and for each scale the preset to start from with the settings laid over it, the numbers
of members, the augmentations and the seeds. A row is the name of a method, or a table with a
label, a method, options (``set``) and settings; a scale may have rows of its own. With a list of
methods it is a row of each, and ``{method}`` in the label is its name.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from wash_bench.errors import UsageError, nearest
from wash_bench.metrics import FURTHER, LEADING, SUMMARY
from wash_bench.plugins.registry import find_method
from wash_bench.settings.sweep import differing, told, variants

FOLDER = Path(__file__).resolve().parent / "tables"
Scale = Literal["paper", "small", "converged"]
SCALES: tuple[str, ...] = get_args(Scale)
Augment = Literal["homogeneous", "heterogeneous"]
METRICS = (
    *(metric.key for metric in (*SUMMARY, *FURTHER) if metric.unit != "text"),
    "sent_vs_papa",
)
"""What a table can have as columns."""


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


class Row(_Strict):
    """One row: a method with options, and settings of its own."""

    label: str
    method: str
    set: dict[str, Any] = {}
    settings: dict[str, Any] = {}

    def variants(self) -> list[Row]:
        """The row, or one for each variant of a method that it sweeps, told in their labels."""
        if not any(isinstance(value, list | str) for value in self.set.values()):
            return [self]
        found = variants(find_method(self.method), self.set)
        names = differing(found)
        return [
            self.model_copy(
                update={"set": own, "label": " ".join(filter(None, [self.label, told(own, names)]))}
            )
            for own in found
        ]


def _of_each_method(rows: Any) -> Any:
    """Rows of one method each."""
    if not isinstance(rows, list):
        return rows
    found = []
    for row in rows:
        if isinstance(row, dict) and isinstance(row.get("method"), list):
            label = str(row.get("label", "{method}"))
            for name in map(str, row["method"]):
                found.append(row | {"method": name, "label": label.replace("{method}", name)})
        else:
            found.append(row)
    return found


Rows = Annotated[tuple[Row | str, ...], BeforeValidator(_of_each_method)]


class ScaleOf(_Strict):
    """What a scale runs."""

    preset: str
    population: tuple[int, ...] = Field(min_length=1)
    augment: tuple[Augment, ...] = Field(min_length=1)
    seeds: tuple[int, ...] = Field((0, 1, 2), min_length=1)
    settings: dict[str, Any] = {}
    row: Rows = ()


class Declared(_Strict):
    """One table, as its file has it."""

    title: str
    about: str
    papers: tuple[str, ...] = ("WASH",)
    metrics: tuple[str, ...] = Field(min_length=1)
    row: Rows = ()
    scale: dict[Scale, ScaleOf]

    @property
    def columns(self) -> tuple[str, ...]:
        """The scores of what each row delivers, and the table's metrics."""
        return tuple(dict.fromkeys((*LEADING, *self.metrics)))

    def rows(self, scale: str) -> list[Row]:
        """The rows at a scale, in order."""
        given = self.scale[scale].row or self.row  # type: ignore[index]
        rows = [Row(label=row, method=row) if isinstance(row, str) else row for row in given]
        return [each for row in rows for each in row.variants()]


@dataclass(frozen=True)
class Named:
    """A table with its name, which is that of its file and of its lines in published.csv."""

    name: str
    table: Declared


def table_names() -> list[str]:
    """The tables in the package, sorted."""
    return sorted(path.stem for path in FOLDER.glob("*.toml"))


def find_table(name: str) -> Named:
    """A table of the package, or of a TOML file of the user's; UsageError if there is none."""
    if name.endswith(".toml"):
        return read_table(Path(name))
    if name not in table_names():
        raise UsageError(f"unknown table {name!r}: {nearest(name, table_names())}")
    return read_table(FOLDER / f"{name}.toml")


def read_table(path: Path) -> Named:
    """Read one table's file; UsageError if it says something that a table does not have."""
    try:
        table = Declared.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise UsageError(f"cannot read table {path}: {error.strerror}; check the path") from None
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UsageError(f"table {path} is not valid TOML: {error}") from None
    except ValidationError as error:
        problem = error.errors()[0]
        place = ".".join(map(str, problem["loc"]))
        raise UsageError(f"table {path}: {place}: {problem['msg']}") from None
    for metric in table.metrics:
        if metric not in METRICS:
            raise UsageError(f"table {path}: no metric {metric!r}; {nearest(metric, METRICS)}")
    for scale in table.scale:
        labels = [row.label for row in table.rows(scale)]
        if not labels or len(set(labels)) < len(labels):
            raise UsageError(f"table {path}: scale {scale} needs rows with different labels")
    return Named(path.stem, table)
