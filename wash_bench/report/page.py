"""``report.html``: everything about a report on one page that fetches nothing from anywhere."""

from __future__ import annotations

import base64
import hashlib
import json
import math
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wash_bench.metrics import METRICS, SUMMARY
from wash_bench.report.command import commands
from wash_bench.report.figures.catalogue import FIGURES
from wash_bench.report.read.columns import PROVENANCE
from wash_bench.report.tables.latex import environment
from wash_bench.report.tables.main_table import main_tables, wide_table
from wash_bench.report.tables.table import MISSING
from wash_bench.report.tables.time_to_accuracy import target_tables

if TYPE_CHECKING:
    import pandas as pd

    from wash_bench.report.read.frames import Records
    from wash_bench.report.tables.table import Table, TableCell

_NUMBER = re.compile(r"[+−-]?\d[\d,]*(\.\d+)?(e[+-]?\d+)?")


@dataclass(frozen=True)
class Entry:
    """One entry of a table: the text, its rank among the others, and its mark."""

    text: str
    sort: str = ""
    mark: str = ""


def write_page(records: Records, figures: Iterable[Path], path: Path) -> Path:
    """Write the page with each figure in it, as SVG where that is of moderate size, else as PNG."""
    templates = environment()
    style = templates.get_template("report.css").render()
    script = templates.get_template("report.js").render()
    drawn = pictures(figures)
    tables = main_tables(records)
    to_target = {table.experiment_id: table for table in target_tables(records)}
    sections = []
    for table in tables:
        cells = records.summary[records.summary["experiment_id"] == table.experiment_id]
        own = [
            name for name in drawn if len(tables) == 1 or name.endswith(f"-{table.experiment_id}")
        ]
        sections.append(
            _section(records, table, to_target.get(table.experiment_id), cells)
            | {"figures": [drawn.pop(name) for name in own]}
        )
    text = templates.get_template("report.html.j2").render(
        sections=sections,
        figures=list(drawn.values()),
        warnings=records.warnings,
        style=style,
        script=script,
        style_hash=_digest(style),
        script_hash=_digest(script),
    )
    path.write_text(text, encoding="utf-8", errors="backslashreplace")
    return path


def sort_value(text: str) -> str:
    """The number that an entry begins with, as scripts read it; empty where it has none."""
    found = _NUMBER.match(text)
    if not found:
        return ""
    return found[0].replace(",", "").replace("−", "-").removeprefix("+")


def _section(
    records: Records, table: Table, to_target: Table | None, cells: pd.DataFrame
) -> dict[str, Any]:
    config = records.configs[table.experiment_id]
    return {
        "id": table.experiment_id,
        "title": table.title,
        "answer": table.answer,
        "caption": [*table.caption, f"Experiment {table.experiment_id}."],
        "tables": [
            *(_parts(table) if table.rows else ()),
            *([_whole(to_target, to_target.title.partition(":")[0])] if to_target else ()),
        ],
        "wide": _whole(wide_table(records, table.experiment_id, cells), "Every score"),
        "notes": table.notes,
        "seeds": [_of_seeds(str(name), own) for name, own in cells.groupby("variant", sort=False)],
        "commands": commands(config, cells),
        "configuration": [
            (
                heading,
                [(name.replace("_", "-"), _text(value)) for name, value in part.items()],
            )
            for heading, part in _configuration(config, cells)
        ],
        "environment": _environment(records.environments_of(cells)),
    }


def _parts(table: Table) -> Iterator[dict[str, Any]]:
    """The main table in two, scores and the rest: side by side no laptop is wide enough."""
    scores = {place for place, key in enumerate(table.keys[1:], start=1) if METRICS[key].scores}
    rest = set(range(1, len(table.keys))) - scores
    for heading, visible in (("Accuracy and NLL", scores), ("Barriers, exchange and time", rest)):
        if visible:
            yield _whole(table, heading, sorted(visible))


def _whole(table: Table, heading: str, places: Sequence[int] | None = None) -> dict[str, Any]:
    """A table as a part of a section: the first column, and those at the places, or all."""
    places = range(1, len(table.columns)) if places is None else places
    return {
        "heading": heading,
        "columns": [table.columns[place] for place in (0, *places)],
        "rows": [
            [Entry(row[0].text)] + [_entry(row[place]) for place in places] for row in table.rows
        ],
    }


def _entry(cell: TableCell) -> Entry:
    return Entry(_unbroken(cell.text), sort_value(cell.text), cell.mark)


def _unbroken(text: str) -> str:
    """An entry that may be broken before its brackets, and before an interval of unequal halves."""
    parts = (part.replace(" ", "\xa0") for part in re.split(r" (?=[\[(]|\+\S+/)", text))
    return " ".join(parts)


def _of_seeds(variant: str, cells: pd.DataFrame) -> dict[str, Any]:
    """What was measured at each seed: a row a metric, a column a seed."""
    columns = list(cells.columns)
    metrics = columns[columns.index(SUMMARY[0].key) : columns.index(PROVENANCE[0])]
    rows = [
        [Entry(name), *map(_measured, cells[name])] for name in metrics if cells[name].notna().any()
    ]
    return {
        "name": variant,
        "seeds": cells["seed"].tolist(),
        "failed": {
            seed: reason or "no reason recorded"
            for seed, status, reason in zip(
                cells["seed"], cells["status"], cells["reason"], strict=True
            )
            if status == "failed"
        },
        "rows": rows,
    }


def _measured(value: Any) -> Entry:
    if isinstance(value, str):
        return Entry(value)
    if value is None or math.isnan(value):
        return Entry(MISSING)
    return Entry(f"{value:.7g}", repr(float(value)))


def _configuration(
    config: dict[str, Any], cells: pd.DataFrame
) -> Iterable[tuple[str, dict[str, Any]]]:
    general = {"preset": config.get("preset", "")}
    every = ("eval_every", "merge_every", "checkpoint_every")
    general |= {key: config[key] for key in every if key in config}
    yield "Run", general | {"seeds": sorted(cells["seed"].unique().tolist())}
    yield "Training", config["training"]
    yield "Evaluation", config["evaluation"]
    for variant, rows in cells.groupby("variant", sort=False):
        if options := json.loads(rows["options"].iloc[0]):
            yield f"Options of {variant}", options


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    return MISSING if value is None else json.dumps(value, ensure_ascii=False)


def _environment(rows: pd.DataFrame) -> list[tuple[str, str]]:
    """Each fact with its value, or with its values and how many trainings have each."""
    facts = []
    for name in rows.columns:
        if name in ("training_id", "methods", "dataset", "model", "seed", "population"):
            continue
        counts = rows[name].dropna().astype(str).value_counts(sort=False)
        values = [(str(value), count) for value, count in counts.items() if value]
        if name == "date" and len(values) > 1:
            dates = sorted(value for value, _ in values)
            facts.append((name, f"{dates[0]} to {dates[-1]}"))
        elif len(values) == 1:
            facts.append((name, values[0][0]))
        elif values:
            each = (f"{value} ({n} training{'s' if n > 1 else ''})" for value, n in values)
            facts.append((name, "; ".join(each)))
    return facts


def _digest(text: str) -> str:
    """What the page's policy says of its one script and its one style sheet."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode("ascii")


MOST_SVG = 1_500_000  # bytes; a larger drawing is shown as its PNG
SCALE = 140  # pixels of the page an inch of a figure
_KINDS = {".svg": "image/svg+xml", ".png": "image/png"}
_SVG_WIDTH = re.compile(rb'<svg[^>]*? width="([0-9.]+)pt"')


@dataclass(frozen=True)
class Picture:
    """A figure as the page shows it.

    Attributes:
        name: of its file, without the ending.
        text: what it shows.
        data: its address, with all of its bytes.
        width: pixels; on narrower windows it shrinks.
    """

    name: str
    text: str
    data: str
    width: int


def pictures(figures: Iterable[Path]) -> dict[str, Picture]:
    """The figures by name, as SVG where that is of moderate size, else as PNG."""
    found: dict[str, Path] = {}
    for path in figures:
        vector = path.suffix == ".svg" and path.stat().st_size <= MOST_SVG
        if vector or (path.suffix == ".png" and path.stem not in found):
            found[path.stem] = path
    return {name: _picture(path) for name, path in found.items()}


def _picture(path: Path) -> Picture:
    content = path.read_bytes()
    return Picture(
        name=path.stem,
        text=FIGURES[path.stem.split("-")[0]].text,
        data=f"data:{_KINDS[path.suffix]};base64,{base64.b64encode(content).decode('ascii')}",
        width=round(SCALE * _inches(path, content)),
    )


def _inches(path: Path, content: bytes) -> float:
    """The width that a figure was drawn for."""
    if path.suffix == ".svg":
        found = _SVG_WIDTH.search(content)
        if found is None:
            raise ValueError(f"{path} has no width in points")
        return float(found.group(1)) / 72
    from PIL import Image

    with Image.open(path) as image:
        return image.width / image.info["dpi"][0]
