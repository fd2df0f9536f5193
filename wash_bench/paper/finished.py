"""A finished table: ours over the seeds, the published number beside it, and the difference.

The scale is in the title. A difference is formed at the papers' scale alone: at another, data,
network and length differ, and ours minus theirs would say nothing about the method.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from wash_bench.data.catalog import spec_of
from wash_bench.metrics import METRICS
from wash_bench.paper.cells import Line
from wash_bench.paper.declared import Named
from wash_bench.paper.published import Published
from wash_bench.report.numbers.stats import Estimate, paired
from wash_bench.report.tables.grid import Cell
from wash_bench.report.tables.main_table import rank

SIZE = "greedy_size"
"""Of every line, beside its table's metrics: a greedy soup may hold a single member."""


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
    """A table at one scale; entries by place of line and metric, ``seconds`` of all trainings."""

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

    def _images(self, place: int) -> int | None:
        """The test images of a line's data set."""
        return spec_of(self.lines[place].resolved.config.training.dataset).test_images

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
                        images = self._images(place)
                        found[place, metric] = paired(values[best], values[place], images)
        return found

    def marks(self) -> dict[tuple[int, str], Cell]:
        """Of each line and metric whether it is the best of its group, or not told from it."""
        marks = {}
        for places in self.groups():
            for metric in self._ranked():
                values = {str(place): self.entries[place, metric].by_seed for place in places}
                best, tied = rank(values, self._images(places[0]))
                for place in places:
                    marks[place, metric] = Cell("", str(place) in best, str(place) in tied)
        return marks
