"""What tuning writes: the table of all settings, and the preset with the best of them."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from wash_bench.config import RunConfig
from wash_bench.files import write_text
from wash_bench.metrics import METRICS
from wash_bench.plugins.options import as_typed
from wash_bench.report.command import preset_text
from wash_bench.report.numbers.machines import machine
from wash_bench.report.numbers.stats import estimate
from wash_bench.report.tables import markdown
from wash_bench.report.tables.table import (
    Column,
    Table,
    build_table,
    format_fixed,
    metric_column,
)
from wash_bench.settings.sweep import flattened, nested
from wash_bench.tuning.choice import CHOSEN_BY, Tried, Tuned
from wash_bench.tuning.outcome import BESIDE


@dataclass(frozen=True)
class Tuning:
    """A finished tuning: its settings with its seeds, the preset's own, and what came out."""

    title: str
    config: RunConfig
    base: RunConfig
    methods: Sequence[Tuned]
    environments: Sequence[dict[str, Any]]


def write(tuning: Tuning, folder: Path) -> list[Path]:
    """Write tuning.md, tuning.csv and tuned.toml into a folder, each as a whole."""
    folder.mkdir(parents=True, exist_ok=True)
    texts = {
        "tuning.md": text(tuning),
        "tuning.csv": frame(tuning).to_csv(index=False, lineterminator="\n"),
        "tuned.toml": preset(tuning),
    }
    for name, content in texts.items():
        write_text(folder / name, content)
    return [folder / name for name in texts]


def text(tuning: Tuning) -> str:
    """The table in Markdown: the chosen setting of a method is bold, letters compare them."""
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
        (tuned, tried, letters)
        for tuned in tuning.methods
        for tried, letters in zip(tuned.tried, tuned.letters(), strict=True)
    ]
    columns: list[Column[tuple[Tuned, Tried, str]]] = [
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


def _score(tried: Tried) -> str:
    if not tried.by_seed:
        return "failed"
    return format_fixed(tried.score.mean, METRICS[CHOSEN_BY].digits or 2)


def _label(tried: Tried) -> str:
    return (
        ", ".join(f"{name} = {as_typed(value)}" for name, value in tried.options.items())
        or "defaults"
    )
