"""A finished table: ours over the seeds, the published number beside it, and the difference.

The scale is in the title. A difference is formed at the papers' scale alone: at another, data,
network and length differ, and ours minus theirs would say nothing about the method.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from wash_bench.metrics import LEADING, METRICS
from wash_bench.paper.cells import Line
from wash_bench.paper.declared import Named
from wash_bench.paper.published import Published
from wash_bench.report.numbers.comparisons import collapsed, letters
from wash_bench.report.numbers.stats import Estimate, paired

SIZE = "greedy_size"
BESIDE = (SIZE, "member_acc_mean", "method_networks")
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
    def columns(self) -> list[str]:
        """The metrics shown: those of the table, and of the leading scores what was recorded."""
        known = {metric for (_, metric), entry in self.entries.items() if entry.ours.n}
        return [m for m in self.named.table.columns if m in known or m in self.named.table.metrics]

    @property
    def published(self) -> list[str]:
        """The metrics of which some line has a published number."""
        having = {metric for (_, metric), entry in self.entries.items() if entry.published}
        return [metric for metric in self.columns if metric in having]

    def groups(self) -> list[list[int]]:
        """The places of lines that compare: equal N, augmentation, data, network and budget."""
        groups: dict[tuple[Any, ...], list[int]] = {}
        for place, line in enumerate(self.lines):
            training = line.resolved.config.training
            key = (line.population, line.augment, training.dataset, training.model, training.epochs)
            groups.setdefault(key, []).append(place)
        return list(groups.values())

    def below_best(self) -> dict[tuple[int, str], Estimate]:
        """Of each line and score the best of its group minus its own, paired by seed."""
        found = {}
        for places in self.groups():
            for metric in self.columns:
                values = {place: self.entries[place, metric].by_seed for place in places}
                known = [place for place in places if values[place]]
                if known and METRICS[metric].scores and METRICS[metric].better:
                    sign = -1 if METRICS[metric].better == "lower" else 1
                    best = max(known, key=lambda p: sign * self.entries[p, metric].ours.mean)
                    for place in known:
                        found[place, metric] = paired(values[best], values[place])
        return found

    def collapsed(self) -> list[int]:
        """The places of lines whose delivered network collapsed, judged inside its group."""
        found = []
        for places in self.groups():
            means = (
                {str(place): self.entries[place, metric].ours.mean for place in places}
                for metric in ("method_acc", "member_acc_mean", "method_nll")
            )
            found += map(int, collapsed(*means))
        return found

    def letters(self) -> dict[tuple[int, str], str]:
        """Compact letters of each line and leading score, by Holm inside its group."""
        found, fallen = {}, list(map(str, self.collapsed()))
        for places in self.groups():
            for metric in LEADING:
                values = {str(place): self.entries[place, metric].by_seed for place in places}
                marks = letters(values, METRICS[metric].better or "higher", fallen, "holm")
                found |= {(int(place), metric): mark for place, mark in marks.items()}
        return found
