"""A finished table: ours over the seeds, the published number beside it, and the difference.

The scale is in the title. A difference is formed at the papers' scale alone: at another, data,
network and length differ, and ours minus theirs would say nothing about the method.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wash_bench.metrics import METRICS
from wash_bench.paper import wording
from wash_bench.paper.cells import Line
from wash_bench.paper.declared import Named
from wash_bench.paper.published import Published
from wash_bench.record.files import write_text
from wash_bench.report.grid import MISSING, Cell, number, written
from wash_bench.report.markdown import escape, table
from wash_bench.report.main_table import rank
from wash_bench.report.stats import Estimate, paired

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Entry:
    """One metric of one line.

    Attributes:
        ours: mean and interval over the seeds; n is 0 where no cell finished.
        by_seed: the value of each seed that has one.
        published: the published number, None where it is not available.
        difference: ours minus published, None where there is none or at another scale.
    """

    ours: Estimate
    by_seed: Mapping[int, float]
    published: Published | None
    difference: float | None


@dataclass
class PaperTable:
    """A table at one scale, ready to be written.

    Attributes:
        named: the table as declared.
        scale: its scale.
        lines: its lines.
        entries: by the line's place and metric.
        records: the finished cells.
        environments: one a record.
        also: published numbers that no cell of the table can be given.
        seconds: wall time of the trainings and their evaluation, added up.
    """

    named: Named
    scale: str
    lines: list[Line]
    entries: dict[tuple[int, str], Entry]
    records: list[dict[str, Any]]
    environments: list[dict[str, Any]]
    also: list[Published]
    seconds: float

    @property
    def title(self) -> str:
        text = f"{self.named.table.title}: {self.named.name} at scale {self.scale}"
        if self.scale == "paper":
            return text
        # The title names the papers' data; what the numbers are of must stand beside it.
        data = dict.fromkeys(line.resolved.config.training.dataset for line in self.lines)
        return f"{text}, on {' and '.join(data)}"

    @property
    def published(self) -> list[str]:
        """The metrics of which some line has a published number."""
        having = {metric for (_, metric), entry in self.entries.items() if entry.published}
        return [metric for metric in self.named.table.metrics if metric in having]

    def frame(self) -> pd.DataFrame:
        """A row a line and metric: what table.csv holds."""
        import pandas as pd

        papers, below = self.named.table.papers, self.below_best()
        rows = []
        for place, line in enumerate(self.lines):
            training = line.resolved.config.training
            for metric in self.named.table.metrics:
                entry = self.entries[place, metric]
                theirs, under = entry.published, below.get((place, metric))
                rows.append(
                    {
                        "table": self.named.name,
                        "scale": self.scale,
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

    def _ranked(self) -> list[str]:
        return [metric for metric in self.named.table.metrics if METRICS[metric].ranked]

    def groups(self) -> list[list[int]]:
        """The places of lines that compare: equal N, augmentation, data, network and budget."""
        groups: dict[tuple[Any, ...], list[int]] = {}
        for place, line in enumerate(self.lines):
            training = line.resolved.config.training
            key = (line.population, line.augment, training.dataset, training.model, training.epochs)
            groups.setdefault(key, []).append(place)
        return list(groups.values())

    def below_best(self) -> dict[tuple[int, str], Estimate]:
        """Of each line and metric the best of its group minus its own, paired by seed."""
        found = {}
        for places in self.groups():
            for metric in self._ranked():
                values = {place: self.entries[place, metric].by_seed for place in places}
                known = [place for place in places if values[place]]
                if known:
                    best = max(known, key=lambda place: self.entries[place, metric].ours.mean)
                    for place in known:
                        found[place, metric] = paired(values[best], values[place])
        return found

    def marks(self) -> dict[tuple[int, str], Cell]:
        """Of each line and metric whether it is the best of its group, or not told from it."""
        marks = {}
        for places in self.groups():
            for metric in self._ranked():
                best, tied = rank(
                    {str(place): self.entries[place, metric].by_seed for place in places}
                )
                for place in places:
                    marks[place, metric] = Cell("", str(place) in best, str(place) in tied)
        return marks

    def markdown(self) -> str:
        """The table as it can be pasted: GitHub Markdown with its caption and notes."""
        differences = self.scale == "paper"
        marks, published = self.marks(), self.published
        headings = ["row", "N", "augmentation"]
        for metric in self.named.table.metrics:
            headings.append(METRICS[metric].heading)
            if metric in published:
                headings += ["published"] + ["difference"] * differences
        lines = [f"## {escape(self.title)}", ""]
        for sentence in wording.above(self):
            lines += [escape(sentence), ""]
        rows = []
        for place, line in enumerate(self.lines):
            cells = [escape(line.row.label), str(line.population), line.augment]
            for metric in self.named.table.metrics:
                found, mark = self.entries[place, metric], marks.get((place, metric), Cell(""))
                ours = written(found.ours, METRICS[metric])
                cells.append(Cell(ours, mark.best, mark.tied).markdown())
                if metric in published:
                    cells += self._theirs(found, differences)
            rows.append(cells)
        lines.append(table(headings, rows))
        best = any(mark.best for mark in marks.values())
        tied = any(mark.tied for mark in marks.values())
        if notes := wording.below(self, best=best, tied=tied):
            lines += ["", *(f"- {escape(note)}" for note in notes)]
        return "\n".join(lines) + "\n"

    def write(self, folder: Path) -> list[Path]:
        """Write NAME-SCALE.md, .csv, and the figure as .png and .svg into ``folder``."""
        from wash_bench.paper import budget_plot, plot
        from wash_bench.report import style
        from wash_bench.report.figures import FORMATS

        stem = f"{self.named.name}-{self.scale}"
        text = {".md": self.markdown(), ".csv": self.frame().to_csv(index=False)}
        paths = [folder / f"{stem}{ending}" for ending in text]
        for path, content in zip(paths, text.values(), strict=True):
            write_text(path, content)
        if figure := budget_plot.draw(self) or plot.draw(self):
            with style.styled():
                for form in FORMATS:
                    paths.append(folder / f"{stem}.{form}")
                    style.save(figure, paths[-1])
        return paths

    def _theirs(self, entry: Entry, differences: bool) -> list[str]:
        theirs = entry.published.text if entry.published else wording.NOT_AVAILABLE
        if entry.published and entry.published.paper != self.named.table.papers[0]:
            theirs += f" ({entry.published.paper})"
        if not differences:
            return [theirs]
        if entry.difference is None:
            return [theirs, MISSING]
        sign = "+" if entry.difference > 0 else ""
        return [theirs, sign + number(entry.difference, 2)]
