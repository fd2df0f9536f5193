"""A finished table in files: Markdown with its caption and notes, CSV, and the figure."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from wash_bench.files import write_text
from wash_bench.metrics import METRICS
from wash_bench.paper import budget_plot, plot, wording
from wash_bench.paper.finished import SIZE, Entry, PaperTable
from wash_bench.report import style
from wash_bench.report.tables.table import (
    MISSING,
    Column,
    build_table,
    format_estimate,
    format_fixed,
)

if TYPE_CHECKING:
    import pandas as pd


def write(table: PaperTable, folder: Path) -> list[Path]:
    """Write NAME-SCALE.md, .csv, and the figure as .png and .svg into ``folder``."""
    stem = f"{table.named.name}-{table.scale}"
    text = {".md": markdown(table), ".csv": frame(table).to_csv(index=False)}
    paths = [folder / f"{stem}{ending}" for ending in text]
    for path, content in zip(paths, text.values(), strict=True):
        write_text(path, content)
    if figure := budget_plot.draw(table) or plot.draw(table):
        with style.styled():
            for form in ("png", "svg"):
                paths.append(folder / f"{stem}.{form}")
                style.save(figure, paths[-1])
    return paths


def markdown(table: PaperTable) -> str:
    """The table as it can be pasted: GitHub Markdown with its caption and notes."""
    letters = table.letters()
    columns: list[Column[int]] = [
        Column("row", lambda place: table.lines[place].row.label, right=False),
        Column("N", lambda place: str(table.lines[place].population)),
        Column("augmentation", lambda place: table.lines[place].augment),
    ]
    for metric in table.columns:
        columns += _columns(table, metric, letters)
    notes = wording.below(table, letters=bool(letters))
    rows = range(len(table.lines))
    return build_table(
        table.title, rows, columns, caption=wording.above(table), notes=notes
    ).markdown()


def _columns(
    table: PaperTable, metric: str, letters: Mapping[tuple[int, str], str]
) -> list[Column[int]]:
    """A metric's columns: ours, and where there is one the published number and the difference."""

    def ours(place: int) -> str:
        text = format_estimate(table.entries[place, metric].ours, METRICS[metric])
        if metric == "greedy_acc" and (size := table.entries[place, SIZE].ours).n:
            text += f" ({size.mean:.2g})"
        size = table.entries[place, "method_networks"].ours
        if metric == "method_acc" and size.mean > 1:
            text += f" ({size.mean:.2g} networks)"
        return text

    heading = METRICS[metric].heading + " (size)" * (metric == "greedy_acc")
    columns = [Column(heading, ours, lambda place: letters.get((place, metric), ""))]
    if metric in table.published:
        columns.append(Column("published", lambda at: _theirs(table, table.entries[at, metric])))
        if table.scale == "paper":
            columns.append(Column("difference", lambda at: _less(table.entries[at, metric])))
    return columns


def _theirs(table: PaperTable, entry: Entry) -> str:
    theirs = entry.published.text if entry.published else wording.NOT_AVAILABLE
    if entry.published and entry.published.paper != table.named.table.papers[0]:
        theirs += f" ({entry.published.paper})"
    return theirs


def _less(entry: Entry) -> str:
    if entry.difference is None:
        return MISSING
    return "+" * (entry.difference > 0) + format_fixed(entry.difference, 2)


def frame(table: PaperTable) -> pd.DataFrame:
    """A row a line and metric: what table.csv holds."""
    import pandas as pd

    papers, below, letters = table.named.table.papers, table.below_best(), table.letters()
    rows = []
    for place, line in enumerate(table.lines):
        training = line.resolved.config.training
        for metric in table.columns:
            entry = table.entries[place, metric]
            theirs, under = entry.published, below.get((place, metric))
            rows.append(
                {
                    "table": table.named.name,
                    "scale": table.scale,
                    "row": line.row.label,
                    "method": line.row.method,
                    "dataset": training.dataset,
                    "model": training.model,
                    "epochs": training.epochs,
                    "N": line.population,
                    "augment": line.augment,
                    "metric": metric,
                    "ours": None if entry.ours.n == 0 else entry.ours.mean,
                    "ours_std": entry.ours.std,
                    "ours_half_width": entry.ours.half_width,
                    "seeds": entry.ours.n,
                    "letters": letters.get((place, metric), ""),
                    "below_best": under.mean if under else None,
                    "below_best_half_width": under.half_width if under else None,
                    "paper": theirs.paper if theirs else papers[0] if papers else "",
                    "published": theirs.value if theirs else None,
                    "published_std": theirs.std if theirs else None,
                    "published_source": theirs.source if theirs else wording.NOT_AVAILABLE,
                    "difference": entry.difference,
                }
            )
    return pd.DataFrame(rows)
