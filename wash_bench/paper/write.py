"""A finished table in files: Markdown with its caption and notes, CSV, and the figure."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from wash_bench.files import write_text
from wash_bench.metrics import METRICS
from wash_bench.paper import budget_plot, plot, wording
from wash_bench.paper.finished import SIZE, Entry, PaperTable
from wash_bench.report import style
from wash_bench.report.figures.catalogue import FORMATS
from wash_bench.report.tables import grid
from wash_bench.report.tables.grid import MISSING, Cell, number, written

if TYPE_CHECKING:
    import pandas as pd


def write(table: PaperTable, folder: Path) -> list[Path]:
    """Write NAME-SCALE.md, .csv, and the figure as .png, .svg and .pdf into ``folder``."""
    stem = f"{table.named.name}-{table.scale}"
    text = {".md": markdown(table), ".csv": frame(table).to_csv(index=False)}
    paths = [folder / f"{stem}{ending}" for ending in text]
    for path, content in zip(paths, text.values(), strict=True):
        write_text(path, content)
    if figure := budget_plot.draw(table) or plot.draw(table):
        with style.styled():
            for form in FORMATS:
                paths.append(folder / f"{stem}.{form}")
                style.save(figure, paths[-1])
    return paths


def markdown(table: PaperTable) -> str:
    """The table as it can be pasted: GitHub Markdown with its caption and notes."""
    differences = table.scale == "paper"
    letters, published = table.letters(), table.published
    columns = ["row", "N", "augmentation"]
    for metric in table.columns:
        columns.append(METRICS[metric].heading + " (size)" * (metric == "greedy_acc"))
        if metric in published:
            columns += ["published"] + ["difference"] * differences
    rows = []
    for place, line in enumerate(table.lines):
        cells = [Cell(line.row.label), Cell(str(line.population)), Cell(line.augment)]
        for metric in table.columns:
            entry = table.entries[place, metric]
            text = written(entry.ours, METRICS[metric])
            if metric == "greedy_acc" and (size := table.entries[place, SIZE].ours).n:
                text += f" ({size.mean:.2g})"
            size = table.entries[place, "method_networks"].ours
            if metric == "method_acc" and size.mean > 1:
                text += f" ({size.mean:.2g} networks)"
            cells.append(Cell(text, letters.get((place, metric), "")))
            if metric in published:
                cells += map(Cell, _theirs(table, entry, differences))
        rows.append(cells)
    notes = wording.below(table, letters=bool(letters))
    return grid.Table(table.title, wording.above(table), columns, rows, notes).markdown()


def _theirs(table: PaperTable, entry: Entry, differences: bool) -> list[str]:
    theirs = entry.published.text if entry.published else wording.NOT_AVAILABLE
    if entry.published and entry.published.paper != table.named.table.papers[0]:
        theirs += f" ({entry.published.paper})"
    if not differences:
        return [theirs]
    if entry.difference is None:
        return [theirs, MISSING]
    sign = "+" if entry.difference > 0 else ""
    return [theirs, sign + number(entry.difference, 2)]


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
