"""``methods.md``: all methods of an experiment on a compact table for each kind of method.

The delivered network's accuracy and NLL, what it lacks to the ensemble of its own members and to
that of independent ones, what a member sends, and what the training costs beside N full ones.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

from wash_bench.config.known_methods import INDEPENDENT
from wash_bench.errors import UsageError
from wash_bench.metrics import METHODS_TABLE
from wash_bench.report.numbers.stats import estimate
from wash_bench.report.tables.main_table import build, collapsed_rows
from wash_bench.report.tables.markdown import escape

if TYPE_CHECKING:
    from wash_bench.report.read.frames import Records

OTHER = "Methods that are not installed"


def methods_text(records: Records) -> str:
    """Return the text of methods.md; merge rules whose network collapsed stand in one line."""
    baseline = records.options.baseline or INDEPENDENT
    merges = _headings()["merge"]
    parts = []
    for experiment_id, cells in records.experiments():
        table = build(records, experiment_id, cells, METHODS_TABLE, baseline=baseline)
        fallen = collapsed_rows(records, experiment_id, cells, baseline)
        finished = cells[cells["status"] == "finished"]
        accuracy = finished.groupby("variant")["method_acc"].apply(lambda v: estimate(v).mean)
        order = sorted(table.rows, key=lambda row: -_or_least(accuracy[row[0].text]))
        lines = [f"## {escape(table.title)}", *map(escape, table.caption)]
        kinds = dict(zip(finished["variant"], finished["method"].map(_kind), strict=True))
        for kind in dict.fromkeys((*_headings().values(), OTHER)):
            own = [row for row in order if kinds[row[0].text] == kind]
            out = [row for row in own if kind == merges and row[0].text in fallen]
            if own:
                lines.append(f"**{kind}**")
            if len(own) > len(out):
                lines.append(replace(table, rows=[row for row in own if row not in out]).body())
            if out:
                ends = " to ".join(f"{accuracy[row[0].text]:.2f}" for row in (out[-1], out[0]))
                names = ", ".join(escape(row[0].text) for row in out)
                lines.append(f"Collapsed here, with {ends} %: {names}.")
        lines.append("\n".join(f"- {escape(note)}" for note in table.notes))
        parts.append("\n\n".join(lines))
    return "# All methods on one table\n\n" + "\n\n".join(parts) + "\n"


def _or_least(value: float) -> float:
    return -math.inf if math.isnan(value) else value


def _headings() -> dict[str, str]:
    from wash_bench.core.method import KINDS

    return {kind: heading.capitalize() for kind, heading in KINDS.items()}


def _kind(method: str) -> str:
    """The heading under which a method stands."""
    from wash_bench.plugins.registry import find_method

    try:
        return _headings()[find_method(method).kind]
    except UsageError:
        return OTHER
