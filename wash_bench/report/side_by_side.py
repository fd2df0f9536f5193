"""What a comparison of two reports holds, and how it is written."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from wash_bench.report.grid import MISSING, escape, number
from wash_bench.report.stats import Estimate

# Columns of the summary with their names, decimals and divisor.
METRICS = {
    "member_acc_mean": ("members (%)", 2, 1.0),
    "ensemble_acc": ("ensemble (%)", 2, 1.0),
    "average_acc": ("averaged (%)", 2, 1.0),
    "average_bn_acc": ("averaged, BN re-est. (%)", 2, 1.0),
    "greedy_acc": ("greedy soup (%)", 2, 1.0),
    "method_acc": ("the method's own (%)", 2, 1.0),
    "ensemble_nll": ("ensemble loss (nats)", 4, 1.0),
    "average_nll": ("averaged loss (nats)", 4, 1.0),
    "barrier_loss_max": ("loss barrier, max (nats)", 3, 1.0),
    "sent_bytes_total": ("MB sent", 3, 1e6),
    "train_seconds": ("train s", 1, 1.0),
}


@dataclass(frozen=True)
class Row:
    """A metric of a method in both.

    Attributes:
        difference: B - A: paired over the seeds that both have, else of the two means.
        seeds: those that are paired; empty where none is common.
    """

    experiment: str
    method: str
    metric: str
    a: Estimate
    b: Estimate
    difference: Estimate
    seeds: tuple[int, ...]

    @property
    def within_noise(self) -> str:
        """Whether the seeds tell the two apart, in a word."""
        if self.difference.n == 0:
            return MISSING
        # A CSV file may be off by the last bit of what the records hold.
        small = 1e-9 * max(abs(self.a.mean), abs(self.b.mean))
        if abs(self.difference.mean) <= small and (self.difference.half_width or 0) <= small:
            return "equal"
        if self.difference.contains_zero is None:
            return "unknown"
        return "yes" if self.difference.contains_zero else "no"


@dataclass
class Comparison:
    """What ``compare`` found: sentences that come first, and the rows."""

    a: Path
    b: Path
    differences: list[str] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)

    def frame(self) -> pd.DataFrame:
        """A row a metric of a method, with numbers."""
        return pd.DataFrame(
            [
                {
                    "experiment": row.experiment,
                    "method": row.method,
                    "metric": row.metric,
                    "a": row.a.mean,
                    "a_seeds": row.a.n,
                    "b": row.b.mean,
                    "b_seeds": row.b.n,
                    "difference": row.difference.mean,
                    "half_width": row.difference.half_width,
                    "paired_seeds": " ".join(map(str, row.seeds)),
                    "within_noise": row.within_noise,
                }
                for row in self.rows
            ]
        )

    def markdown(self) -> str:
        """GitHub Markdown: the differences in how they were made, then a table an experiment."""
        lines = [f"A: {escape(str(self.a))}; B: {escape(str(self.b))}", ""]
        if self.differences:
            lines += ["What differs in configuration and environment:", ""]
            lines += [f"- {escape(text)}" for text in self.differences]
        else:
            lines.append("Configuration and environment are the same in what both tell.")
        for experiment in dict.fromkeys(row.experiment for row in self.rows):
            lines += ["", f"### {escape(experiment)}", ""]
            lines += [
                "| method | metric | A | B | B − A | seeds | within noise |",
                "| --- | --- | ---: | ---: | ---: | --- | --- |",
            ]
            lines += [_line(row) for row in self.rows if row.experiment == experiment]
        lines += [
            "",
            "A and B: means over all seeds of each. B − A: the mean over the seeds that both have,"
            " paired, ± half-width of its 95 % Student-t interval; unpaired (Welch) where"
            " no seed is common.",
            "Within noise: yes, if that interval contains 0; unknown, with one seed. One in"
            " twenty comparisons of equals says no.",
        ]
        return "\n".join(lines) + "\n"


def _line(row: Row) -> str:
    digits = next(digits for name, digits, _ in METRICS.values() if name == row.metric)
    difference = number(row.difference.mean, digits)
    if row.difference.mean > 0:
        difference = "+" + difference
    if row.difference.half_width is not None:
        difference += f" ± {number(row.difference.half_width, digits)}"
    if row.seeds:
        seeds = ", ".join(map(str, row.seeds))
    else:
        seeds = f"unpaired ({row.a.n} and {row.b.n})" if row.difference.n else MISSING
    values = [
        escape(row.method),
        escape(row.metric),
        number(row.a.mean, digits),
        number(row.b.mean, digits),
        difference,
        seeds,
        row.within_noise,
    ]
    return "| " + " | ".join(values) + " |"
