"""The table of a study: a line a row, ours over the seeds, published numbers beside.

The scale is in the title. A difference is formed at the papers' scale alone: at another, data,
network and length differ, and ours minus theirs would say nothing about the method.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wash_bench.known_methods import TRAFFIC_REFERENCE
from wash_bench.metrics import LEADING, METRICS
from wash_bench.record.store import Store
from wash_bench.report.numbers.comparisons import collapsed, letters
from wash_bench.report.numbers.machines import environment_warning, machine
from wash_bench.report.numbers.stats import Estimate, estimate, paired
from wash_bench.report.published import Published, find
from wash_bench.report.tables.caption import intervals
from wash_bench.report.tables.notes import of_collapsed
from wash_bench.report.tables.table import (
    MISSING,
    Column,
    Table,
    build_table,
    format_estimate,
    format_fixed,
)
from wash_bench.study.coupling import in_words
from wash_bench.study.file import Line, Study
from wash_bench.study.sweep import all_told

if TYPE_CHECKING:
    import pandas as pd

    from wash_bench.config import TrainingConfig

SIZE = "greedy_size"
BESIDE = (SIZE, "member_acc_mean", "method_networks")
"""Of every line, beside the study's metrics: a greedy soup may hold a single member."""
NOT_AVAILABLE = "not available"
LETTERS = (
    "Rows that share a letter are not significantly different at 95 % (t tests of all pairs,"
    " adjusted by Holm; two-way fit of rows and seeds)."
)
BySeed = Mapping[int, float]


@dataclass
class StudyTable:
    """A study with what its run folder holds.

    Attributes:
        study: the rows.
        values: the values by seed, by place of the row and metric.
        records: of the finished cells.
        environments: where they were trained.
        numbers: published ones.
    """

    study: Study
    values: dict[tuple[int, str], BySeed]
    records: list[dict[str, Any]] = field(default_factory=list)
    environments: list[dict[str, Any]] = field(default_factory=list)
    numbers: Sequence[Published] = ()

    @classmethod
    def of(cls, study: Study, out: Path, numbers: Sequence[Published] = ()) -> StudyTable:
        """Read what the run folder ``out`` holds of a study."""
        store, table = Store(out), cls(study, {}, numbers=numbers)
        of_line = []
        for line in study.lines:
            found = [store.cell(cell.cell_id) for cell in line.cells]
            of_line.append([r for r in found if r is not None and r["status"] == "finished"])
        table.records = [record for records in of_line for record in records]
        table.environments = [
            store.training(record["training_id"]).environment_so_far() for record in table.records
        ]
        papa = {
            (line.population, line.augment): _mean(records, "sent_values_total")
            for line, records in zip(study.lines, of_line, strict=True)
            if line.row.method == TRAFFIC_REFERENCE
        }
        for place, (line, records) in enumerate(zip(study.lines, of_line, strict=True)):
            for metric in (*study.file.columns, *BESIDE):
                by_seed = {r["seed"]: r["summary"].get(metric) for r in records}
                if metric == "sent_vs_papa":
                    whole = papa.get((line.population, line.augment), math.nan)
                    by_seed = {0: _mean(records, "sent_values_total") / whole if whole else None}
                known = {s: v for s, v in by_seed.items() if v is not None and not math.isnan(v)}
                table.values[place, metric] = known
        return table

    @property
    def lines(self) -> tuple[Line, ...]:
        """The rows."""
        return self.study.lines

    def ours(self, place: int, metric: str) -> Estimate:
        """Return mean and interval over the seeds; n is 0 where no cell finished."""
        return estimate(self.values[place, metric].values())

    def published(self, place: int, metric: str) -> Published | None:
        """Return the number of the first of the study's papers that has one."""
        line, name = self.lines[place], self.study.name
        about = line.population, line.augment, line.row.label, metric
        found = (find(self.numbers, paper, name, *about) for paper in self.study.file.papers)
        return next(filter(None, found), None)

    def difference(self, place: int, metric: str) -> float | None:
        """Return ours minus published; None where there is none or at another scale."""
        theirs, ours = self.published(place, metric), self.ours(place, metric)
        if theirs is None or not ours.n or self.study.scale != "paper":
            return None
        return ours.mean - theirs.value

    @property
    def title(self) -> str:
        scale, title = self.study.scale, self.study.file.title
        if not scale:
            return title
        text = f"{title}: {self.study.name} at scale {scale}"
        if scale == "paper":
            return text
        # The title names the papers' data; what the numbers are of must stand beside it.
        data = dict.fromkeys(line.resolved.config.training.dataset for line in self.lines)
        return f"{text}, on {' and '.join(data)}"

    @property
    def columns(self) -> list[str]:
        """The metrics shown: those of the study, and of the leading scores what was recorded."""
        known = {metric for (_, metric), by_seed in self.values.items() if by_seed}
        file = self.study.file
        return [metric for metric in file.columns if metric in known or metric in file.metrics]

    @property
    def compared(self) -> list[str]:
        """The metrics of which some row has a published number."""
        places = range(len(self.lines))
        return [m for m in self.columns if any(self.published(place, m) for place in places)]

    def groups(self) -> list[list[int]]:
        """Return the places of rows that compare: equal N, augmentation, data, network, budget."""
        groups: dict[tuple[Any, ...], list[int]] = {}
        for place, line in enumerate(self.lines):
            training = line.resolved.config.training
            key = (line.population, line.augment, training.dataset, training.model, training.epochs)
            groups.setdefault(key, []).append(place)
        return list(groups.values())

    def below_best(self) -> dict[tuple[int, str], Estimate]:
        """Return, of each row and score, the best of its group minus its own, paired by seed."""
        found = {}
        for places in self.groups():
            for metric in self.columns:
                known = [place for place in places if self.values[place, metric]]
                if known and METRICS[metric].scores and METRICS[metric].better:
                    sign = -1 if METRICS[metric].better == "lower" else 1
                    best = max(known, key=lambda p: sign * self.ours(p, metric).mean)
                    for place in known:
                        values = self.values[best, metric], self.values[place, metric]
                        found[place, metric] = paired(*values)
        return found

    def collapsed(self) -> list[int]:
        """Return the places of rows whose network collapsed, judged inside its group."""
        found = []
        for places in self.groups():
            means = (
                {str(place): self.ours(place, metric).mean for place in places}
                for metric in ("method_acc", "member_acc_mean", "method_nll")
            )
            found += map(int, collapsed(*means))
        return found

    def letters(self) -> dict[tuple[int, str], str]:
        """Return compact letters of each row and leading score, by Holm inside its group."""
        found, fallen = {}, list(map(str, self.collapsed()))
        for places in self.groups():
            for metric in LEADING:
                values = {str(place): self.values[place, metric] for place in places}
                marks = letters(values, METRICS[metric].better or "higher", fallen, "holm")
                found |= {(int(place), metric): mark for place, mark in marks.items()}
        return found

    # Text ------------------------------------------------------------------------------------

    def table(self) -> Table:
        """Return the table with its caption and notes."""
        marks = self.letters()
        columns: list[Column[int]] = [
            Column("row", lambda place: self.lines[place].row.label, right=False),
            Column("N", lambda place: str(self.lines[place].population)),
            Column("augmentation", lambda place: self.lines[place].augment),
        ]
        for metric in self.columns:
            columns += self._columns_of(metric, marks)
        about = {"caption": self._above(), "notes": self._below(bool(marks))}
        return build_table(self.title, range(len(self.lines)), columns, **about)

    def _columns_of(self, metric: str, letters: Mapping[tuple[int, str], str]) -> list[Column[int]]:
        """A metric's columns: ours, and where there is one the published number, the difference."""

        def ours(place: int) -> str:
            text = format_estimate(self.ours(place, metric), METRICS[metric])
            if metric == "greedy_acc" and (size := self.ours(place, SIZE)).n:
                text += f" ({size.mean:.2g})"
            size = self.ours(place, "method_networks")
            if metric == "method_acc" and size.mean > 1:
                text += f" ({size.mean:.2g} networks)"
            return text

        heading = METRICS[metric].heading + " (size)" * (metric == "greedy_acc")
        columns = [Column(heading, ours, lambda place: letters.get((place, metric), ""))]
        if metric in self.compared:
            columns.append(Column("published", lambda place: self._theirs(place, metric)))
            if self.study.scale == "paper":
                columns.append(Column("difference", lambda place: self._less(place, metric)))
        return columns

    def _theirs(self, place: int, metric: str) -> str:
        published = self.published(place, metric)
        theirs = published.text if published else NOT_AVAILABLE
        if published and published.paper != self.study.file.papers[0]:
            theirs += f" ({published.paper})"
        return theirs

    def _less(self, place: int, metric: str) -> str:
        difference = self.difference(place, metric)
        if difference is None:
            return MISSING
        return "+" * (difference > 0) + format_fixed(difference, 2)

    def _above(self) -> list[str]:
        """The sentences above the table: what was run, at which scale, and where."""
        configs = [line.resolved.config for line in self.lines]

        def of(name: str) -> list[str]:
            return list(dict.fromkeys(str(getattr(config.training, name)) for config in configs))

        steps = sorted({int(record["summary"]["steps"]) for record in self.records})
        epochs = of("epochs")
        length = f"{_listed(epochs)} epoch{'' if epochs == ['1'] else 's'}"
        if steps:
            length += f" = {_listed([f'{count:,}' for count in steps])} steps"
        # What belongs together is told together: an image size is one of a data set and a model.
        data = dict.fromkeys(_data(config.training) for config in configs)
        rates = dict.fromkeys(
            f"{c.training.optimizer}, learning rate {c.training.lr:g}" for c in configs
        )
        scale = f"Scale {self.study.scale}: " if self.study.scale else ""
        about = f"{scale}{'; '.join(data)}. {length} of {_listed(of('batch_size'))} images"
        about += f" a member; {_listed(list(rates))}; {_listed(of('init'))} initial weights;"
        about += f" validation share {_listed(of('val_share'))}."
        sentences = [text for text in (self.study.file.about, about) if text]
        seeds = sorted({record["seed"] for record in self.records})
        if not seeds:
            return [*sentences, "No cell finished."]
        text = intervals(seeds)
        sentences.append(f"Accuracies in per cent on test data. {text[0].upper()}{text[1:]}")
        several = "each row's is in its label"
        if len(steps) > 1:
            sentences.append(f"This table mixes training budgets: {several}.")
        if len(data) > 1:
            sentences.append(f"This table mixes data or networks: {several}.")
        rows, seconds = _frame(self.environments), self._seconds()
        sentences.append(
            f"{machine(rows)} The trainings and their evaluation took {seconds / 60:.0f} minutes,"
            " added up."
        )
        if several_machines := environment_warning(rows):
            sentences.append(f"{several_machines.partition(': ')[0]} (see below).")
        if self.compared and self.study.scale == "paper":
            sentences.append("Difference: ours minus published.")
        elif self.compared:
            sentences.append(
                "Published numbers are those of the papers' own data, network and length; none is"
                " of this scale, so no difference is formed."
            )
        return sentences

    def _seconds(self) -> float:
        """Of all trainings with their evaluation."""
        seconds = {
            record["training_id"]: record["summary"]["train_seconds"]
            + record["summary"]["eval_seconds"]
            for record in self.records
        }
        return sum(seconds.values())

    def _below(self, with_letters: bool) -> list[str]:
        """The notes under the table, in which values may have letters."""
        notes = [LETTERS] * with_letters
        notes += of_collapsed([self.lines[place].row.label for place in self.collapsed()])
        several = {line.resolved.config.training.key() for line in self.lines}
        if with_letters and len(several) > 1:
            notes.append("Letters compare rows of equal N, augmentation, data, network and budget.")
        for line in self.lines:
            (spec,) = line.resolved.specs
            if spec.coupling:
                notes.append(f"{line.row.label}: coupling {in_words(spec.coupling)}.")
            elif spec.options and not line.row.label.endswith(text := all_told(spec.options)):
                notes.append(f"{line.row.label}: {text}.")
        for place, metric in self.values:
            if theirs := self.published(place, metric):
                notes.append(f"Published, {theirs.method}: {_source(theirs)}.")
        for theirs in self.numbers:  # whose N or augmentation no source tells
            of_study = theirs.paper in self.study.file.papers and theirs.table == self.study.name
            if of_study and (theirs.N is None or not theirs.augment):
                notes.append(
                    f"Published beside the table: {theirs.paper}, {theirs.method},"
                    f" {theirs.metric} {theirs.text}: {_source(theirs)}."
                )
        notes += [environment_warning(_frame(self.environments)), *self._not_available()]
        return list(dict.fromkeys(filter(None, notes)))

    def _not_available(self) -> list[str]:
        """Which published numbers are not there, and how they come in."""
        papers = " and ".join(self.study.file.papers)
        if not papers:
            return ["No paper that the package knows has this table."] * bool(self.study.scale)
        metrics, places = self.study.file.metrics, range(len(self.lines))
        missing = [m for m in metrics if any(self.published(i, m) is None for i in places)]
        if not missing:
            return []
        none = len(missing) == len(metrics) and not self.compared
        return [
            f"Published numbers of {papers} {'of this table' if none else 'shown so'}:"
            f" {NOT_AVAILABLE} (the source could not be had);"
            " --published FILE fills them in (columns of published.csv)."
        ]

    def frame(self) -> pd.DataFrame:
        """Return a row a line and metric: what NAME.csv holds."""
        papers, below, marks = self.study.file.papers, self.below_best(), self.letters()
        rows = []
        for place, line in enumerate(self.lines):
            training = line.resolved.config.training
            for metric in self.columns:
                ours, theirs = self.ours(place, metric), self.published(place, metric)
                under = below.get((place, metric))
                rows.append(
                    {
                        "table": self.study.name,
                        "scale": self.study.scale,
                        "row": line.row.label,
                        "method": line.row.method,
                        "dataset": training.dataset,
                        "model": training.model,
                        "epochs": training.epochs,
                        "N": line.population,
                        "augment": line.augment,
                        "metric": metric,
                        "ours": None if ours.n == 0 else ours.mean,
                        "ours_std": ours.std,
                        "ours_half_width": ours.half_width,
                        "seeds": ours.n,
                        "letters": marks.get((place, metric), ""),
                        "below_best": under.mean if under else None,
                        "below_best_half_width": under.half_width if under else None,
                        "paper": theirs.paper if theirs else papers[0] if papers else "",
                        "published": theirs.value if theirs else None,
                        "published_std": theirs.std if theirs else None,
                        "published_source": theirs.source if theirs else NOT_AVAILABLE,
                        "difference": self.difference(place, metric),
                    }
                )
        return _frame(rows)


def _frame(rows: list[dict[str, Any]]) -> pd.DataFrame:
    import pandas as pd

    return pd.DataFrame(rows)


def _data(training: TrainingConfig) -> str:
    text = f"data set {training.dataset}"
    text += f" ({training.train_limit:,} images)" if training.train_limit else ""
    text += f" at {training.image_size} px" if training.image_size else ""
    return f"{text}, model {training.model}"


def _listed(words: list[str]) -> str:
    return " and ".join(filter(None, [", ".join(words[:-1]), words[-1]]))


def _source(line: Published) -> str:
    return line.source + (f" ({line.evidence})" if line.evidence else "")


def _mean(records: Sequence[dict[str, Any]], metric: str) -> float:
    return estimate(record["summary"].get(metric) for record in records).mean
