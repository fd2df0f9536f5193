"""The table of a tuning: which setting of each method validates best, and how sure that is.

The choice is by the validation accuracy of the network that the method delivers, mean over the
seeds; of equal settings the one that sends less. Test data plays no part.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wash_bench.config import RunConfig
from wash_bench.files import write_text
from wash_bench.metrics import METRICS
from wash_bench.plugins.options import as_typed
from wash_bench.record.store import Store
from wash_bench.report.command import preset_text
from wash_bench.report.csv_text import csv_text
from wash_bench.report.numbers.comparisons import collapsed, letters
from wash_bench.report.numbers.machines import machine
from wash_bench.report.numbers.stats import Estimate, estimate
from wash_bench.report.tables import markdown
from wash_bench.report.tables.table import (
    Column,
    Table,
    build_table,
    format_fixed,
    metric_column,
)
from wash_bench.study.cells import Cell, MethodSpec
from wash_bench.study.sweep import flattened, nested

if TYPE_CHECKING:
    import pandas as pd

CHOSEN_BY = "method_val_acc"
BESIDE = ("member_val_acc_mean", "consensus_relative", "sent_values_per_step")
"""Metrics that stand beside in the table, and choose nothing."""
EQUAL = 1e-9  # points of accuracy


@dataclass(frozen=True)
class Trial:
    """One setting of a method.

    Attributes:
        options: all that were given, a wrapper's under NAME.OPTION.
        by_seed: validation accuracy in per cent of the network that the method delivers.
        means: other metrics by key, means over the seeds.
    """

    options: Mapping[str, Any]
    by_seed: Mapping[int, float]
    means: Mapping[str, float]

    @property
    def score(self) -> Estimate:
        """Mean validation accuracy over the seeds."""
        return estimate(self.by_seed.values())


@dataclass(frozen=True)
class Selection:
    """A method's settings in the order of the grid.

    Attributes:
        method: its name.
        tried: the settings.
        failed: seed and reason of trainings that failed.
    """

    method: str
    tried: tuple[Trial, ...]
    failed: tuple[str, ...] = ()

    @property
    def best(self) -> Trial | None:
        """The setting with the highest mean; of equals the one that sends least."""
        complete = max((len(tried.by_seed) for tried in self.tried), default=0)
        # A setting that some seeds did not survive is no choice.
        sound = [t for t in self.tried if t.by_seed and len(t.by_seed) == complete]
        if not sound:
            return None
        top = max(tried.score.mean for tried in sound)
        level = [tried for tried in sound if tried.score.mean >= top - EQUAL]
        return min(level, key=lambda tried: tried.means["sent_values_per_step"])

    def letters(self) -> list[str]:
        """Compact letters of each setting, by Tukey; empty with fewer than three seeds."""
        values = {str(place): tried.by_seed for place, tried in enumerate(self.tried)}
        means = {place: estimate(own.values()).mean for place, own in values.items()}
        members = {
            str(place): tried.means.get("member_val_acc_mean", math.nan)
            for place, tried in enumerate(self.tried)
        }
        marks = letters(values, "higher", collapsed(means, members, {}))
        return [marks.get(place, "") for place in values]

    def level(self) -> list[Trial] | None:
        """Settings that are not significantly different from the best; None if not compared."""
        marks = self.letters()
        best = next((mark for t, mark in zip(self.tried, marks, strict=True) if t is self.best), "")
        if not best:
            return None
        others = zip(self.tried, marks, strict=True)
        return [t for t, mark in others if t is not self.best and set(best) & set(mark)]

    def ends(self) -> dict[str, list[float]]:
        """Return the values tried of each option at whose edge the best stands, the edge last."""
        found = {}
        for name, side in self.edges().items():
            values = self.values(name)
            found[name] = values[::-1] if side == "least" else values
        return found

    def edges(self) -> dict[str, str]:
        """Swept numbers whose best value is the ``least`` or the ``greatest`` that was tried."""
        best, found = self.best, {}
        for name in best.options if best else ():
            values = self.values(name)
            if best and len(values) > 1 and best.options[name] in (values[0], values[-1]):
                found[name] = "least" if best.options[name] == values[0] else "greatest"
        return found

    def values(self, name: str) -> list[float]:
        """The numbers tried for an option beside the best of all others, ascending."""
        best = self.best
        if best is None:
            return []
        rest = {key: value for key, value in best.options.items() if key != name}
        found = {
            tried.options.get(name)
            for tried in self.tried
            if {key: v for key, v in tried.options.items() if key != name} == rest
        }
        numbers = [v for v in found if isinstance(v, int | float) and not isinstance(v, bool)]
        return sorted(numbers) if len(numbers) == len(found) else []


@dataclass(frozen=True)
class Tuning:
    """A finished tuning.

    Attributes:
        title: the preset's name.
        config: the settings with the seeds of the tuning.
        base: the preset's own.
        methods: the settings of each method, and which is the best.
        environments: where the trainings ran.
    """

    title: str
    config: RunConfig
    base: RunConfig
    methods: Sequence[Selection]
    environments: Sequence[dict[str, Any]] = ()

    @classmethod
    def of(
        cls, title: str, config: RunConfig, base: RunConfig, cells: Sequence[Cell], out: Path
    ) -> Tuning:
        """Read what the run folder ``out`` holds of the cells of a tuning."""
        store = Store(out)
        ids = dict.fromkeys(cell.training_id for cell in cells)
        found = [store.training(training_id).environment_so_far() for training_id in ids]
        methods = selections(cells, out)
        return cls(title, config, base, methods, [each for each in found if each])

    def write(self, folder: Path) -> list[Path]:
        """Write tuning.md, tuning.csv and tuned.toml into a folder, each as a whole."""
        folder.mkdir(parents=True, exist_ok=True)
        texts = {
            "tuning.md": text(self),
            "tuning.csv": csv_text(frame(self)),
            "tuned.toml": preset(self),
        }
        for name, content in texts.items():
            write_text(folder / name, content)
        return [folder / name for name in texts]


def selections(cells: Sequence[Cell], out: Path) -> list[Selection]:
    """Read what the run folder holds of each method's settings, in the order of the cells."""
    store = Store(out)
    records: dict[str, dict[int, tuple[MethodSpec, list[dict[str, Any]]]]] = {}
    for cell in cells:
        own = records.setdefault(cell.method, {}).setdefault(id(cell.spec), (cell.spec, []))
        if (record := store.cell(cell.cell_id)) is not None:
            own[1].append(record)
    found = []
    for method, settings in records.items():
        tried, failed = [], []
        for spec, of_spec in settings.values():
            bad = [record for record in of_spec if record["status"] == "failed"]
            failed += [f"seed {record['seed']}: {record['reason']}" for record in bad]
            finished = [record for record in of_spec if record["status"] != "failed"]
            tried.append(_trial(flattened(spec.options), finished))
        found.append(Selection(method, tuple(tried), tuple(failed)))
    return found


def _trial(options: dict[str, Any], records: Sequence[dict[str, Any]]) -> Trial:
    by_seed = {record["seed"]: record["summary"].get(CHOSEN_BY) for record in records}
    known = {seed: v for seed, v in by_seed.items() if v is not None and math.isfinite(v)}
    means = {key: estimate(r["summary"].get(key) for r in records).mean for key in BESIDE}
    return Trial(options, known, means)


def text(tuning: Tuning) -> str:
    """The table in Markdown: the chosen setting of a method is bold, letters compare them."""
    import pandas as pd

    seeds = ", ".join(map(str, tuning.config.seeds))
    own = ", ".join(map(str, tuning.base.seeds))
    lines = [
        f"# Tuning: {markdown.escape(tuning.title)}",
        "",
        f"Seeds {seeds}; the preset's results have {own}. Chosen by the validation accuracy of the"
        " network that the method delivers (of most the averaged model, BatchNorm statistics"
        " averaged), mean over the seeds, in per cent; of equal settings the one that sends less."
        " Bold: the chosen setting of a method. Settings of a method that share a letter are not"
        " significantly different at 95 % (Tukey; two-way fit of settings and seeds; no letters"
        " with fewer than three seeds). The other columns choose nothing, and test data play no"
        " part.",
        "",
        machine(pd.DataFrame(list(tuning.environments)), ""),
        "",
        _table(tuning).body(),
        "",
    ]
    return "\n".join([*lines, *(f"- {markdown.escape(note)}" for note in notes(tuning))]) + "\n"


def notes(tuning: Tuning) -> list[str]:
    """The choice of each method, where it stands at an edge of the grid, and what failed."""
    found = []
    for tuned in tuning.methods:
        if tuned.best is None:
            found.append(f"{tuned.method}: no setting finished at all seeds")
        else:
            level = tuned.level()
            count = len(level or ())
            other = "1 other is" if count == 1 else f"{count} others are"
            compared = f"; {other} not significantly different" if level is not None else ""
            found.append(f"{tuned.method}: {_label(tuned.best)}{compared}")
        for name, side in tuned.edges().items():
            found.append(
                f"{tuned.method}: {name} = {tuned.best and tuned.best.options[name]} is the"
                f" {side} of the values tried; --widen goes on beyond it"
            )
        found += [f"{tuned.method} failed: {reason}" for reason in tuned.failed]
    return found


def frame(tuning: Tuning) -> pd.DataFrame:
    """A row a method, setting and seed: validation accuracy, and what stands beside it."""
    import pandas as pd

    return pd.DataFrame(
        [
            {
                "method": tuned.method,
                "options": json.dumps(dict(tried.options), sort_keys=True),
                "seed": seed,
                CHOSEN_BY: value,
                "chosen": tried is tuned.best,
            }
            | {f"{key}_over_seeds": tried.means[key] for key in BESIDE}
            for tuned in tuning.methods
            for tried in tuned.tried
            for seed, value in tried.by_seed.items()
        ]
    )


def preset(tuning: Tuning) -> str:
    """The preset with the best settings, as a file for ``--preset-file``."""
    options = {name: dict(tuning.base.set.get(name, {})) for name in tuning.base.methods}
    for tuned in tuning.methods:
        own = options.setdefault(tuned.method, dict(tuning.base.set.get(tuned.method, {})))
        if tuned.best:
            own |= nested(flattened(own) | dict(tuned.best.options))
    seeds = list(tuning.base.seeds)
    methods = {name: (json.dumps(own), seeds) for name, own in options.items()}
    head = f"# {tuning.title}, tuned on seeds {', '.join(map(str, tuning.config.seeds))}.\n"
    return head + preset_text(tuning.base.model_dump(mode="json"), methods)


def _table(tuning: Tuning) -> Table:
    """Build the table: a row a method and setting."""
    rows = [
        (tuned, tried, marks)
        for tuned in tuning.methods
        for tried, marks in zip(tuned.tried, tuned.letters(), strict=True)
    ]
    columns: list[Column[tuple[Selection, Trial, str]]] = [
        Column("method", lambda row: row[0].method, right=False),
        Column("setting", lambda row: _label(row[1]), right=False),
        Column(
            METRICS[CHOSEN_BY].heading,
            lambda row: _score(row[1]),
            mark=lambda row: row[2],
            bold=lambda row: row[1] is row[0].best,
        ),
        *(metric_column(key, lambda row, key=key: estimate([row[1].means[key]])) for key in BESIDE),
    ]
    return build_table(tuning.title, rows, columns)


def _score(tried: Trial) -> str:
    if not tried.by_seed:
        return "failed"
    return format_fixed(tried.score.mean, METRICS[CHOSEN_BY].digits or 2)


def _label(tried: Trial) -> str:
    return (
        ", ".join(f"{name} = {as_typed(value)}" for name, value in tried.options.items())
        or "defaults"
    )
