"""From the records of a run folder to a table: ours over the seeds, and what is published."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from wash_bench.paper.cells import Line
from wash_bench.paper.declared import Named
from wash_bench.paper.finished import BESIDE, Entry, PaperTable
from wash_bench.paper.published import Published, find
from wash_bench.record.store import Store
from wash_bench.report.numbers.stats import estimate


def collect(
    named: Named, scale: str, lines: Sequence[Line], out: Path, published: Sequence[Published]
) -> PaperTable:
    """The table, at a scale, from the records of its lines that the run folder holds."""
    store = Store(out)
    of_line: list[list[dict[str, Any]]] = []
    environments: list[dict[str, Any]] = []
    for line in lines:
        found = []
        for cell in line.cells:
            record = store.cell(cell.cell_id)
            if record is not None and record["status"] == "finished":
                found.append(record)
                folder = store.training(cell.training_id)
                environments.append(folder.environment_so_far())
        of_line.append(found)
    seconds = {
        record["training_id"]: record["summary"]["train_seconds"]
        + record["summary"]["eval_seconds"]
        for records in of_line
        for record in records
    }
    return PaperTable(
        named,
        scale,
        list(lines),
        _entries(named, scale, lines, of_line, published),
        [record for records in of_line for record in records],
        environments,
        _also(named, published),
        sum(seconds.values()),
    )


def _entries(
    named: Named,
    scale: str,
    lines: Sequence[Line],
    of_line: Sequence[Sequence[dict[str, Any]]],
    published: Sequence[Published],
) -> dict[tuple[int, str], Entry]:
    papa = {
        (line.population, line.augment): _mean(records, "sent_values_total")
        for line, records in zip(lines, of_line, strict=True)
        if line.row.method == "papa"
    }
    entries = {}
    for place, (line, records) in enumerate(zip(lines, of_line, strict=True)):
        for metric in (*named.table.columns, *BESIDE):
            by_seed = {r["seed"]: r["summary"].get(metric) for r in records}
            if metric == "sent_vs_papa":
                whole = papa.get((line.population, line.augment), math.nan)
                share = _mean(records, "sent_values_total") / whole if whole else math.nan
                by_seed = {0: share}
            ours = estimate(by_seed.values())
            theirs = _published(named, line, metric, published)
            difference = None
            if theirs and ours.n and scale == "paper":
                difference = ours.mean - theirs.value
            known = {seed: v for seed, v in by_seed.items() if v is not None and not math.isnan(v)}
            entries[place, metric] = Entry(ours, known, theirs, difference)
    return entries


def _published(
    named: Named, line: Line, metric: str, published: Sequence[Published]
) -> Published | None:
    """The number of the first of the table's papers that has one."""
    of_papers = (
        find(published, paper, named.name, line.population, line.augment, line.row.label, metric)
        for paper in named.table.papers
    )
    return next(filter(None, of_papers), None)


def _also(named: Named, published: Sequence[Published]) -> list[Published]:
    """Numbers for this table whose N or augmentation is not told."""
    return [
        line
        for line in published
        if line.paper in named.table.papers
        and line.table == named.name
        and (line.N is None or not line.augment)
    ]


def _mean(records: Sequence[dict[str, Any]], metric: str) -> float:
    return estimate(record["summary"].get(metric) for record in records).mean
