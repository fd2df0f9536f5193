"""The figures of a report: a row each, what it shows and what it is drawn from.

Another figure is a module that draws it, and its row.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from wash_bench.errors import UsageError, nearest
from wash_bench.report import style
from wash_bench.report.figures import (
    ablation_plot,
    accuracy_plot,
    barrier_plot,
    consensus_plot,
    corruption_plot,
    pairs_plot,
    pareto_plot,
    simplex_plot,
    training_plot,
)
from wash_bench.report.numbers.diagnosis import without_copies

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from wash_bench.report.read.frames import Records


@dataclass(frozen=True)
class Source:
    """Finished cells, of one experiment or of several set side by side, and all records."""

    cells: pd.DataFrame
    records: Records

    @cached_property
    def curves(self) -> pd.DataFrame:
        """Which trainings are one curve (``summary.curves``)."""
        from wash_bench.report.read.summary import curves

        return curves(self.cells)

    def of_experiment(self, table: pd.DataFrame) -> pd.DataFrame:
        """The rows of a table that belong to the cells' experiment."""
        return table[table["experiment_id"].isin(self.cells["experiment_id"])]

    @property
    def events(self) -> pd.DataFrame:
        """The events of the cells' trainings."""
        events = self.records.events
        return events[events["training_id"].isin(self.cells["training_id"])]


@dataclass(frozen=True)
class Drawing:
    """One figure.

    Attributes:
        text: what it shows, as report.html says.
        draw: gives the figure, or None where its data was not recorded.
        across: whether it sets experiments side by side; else there is one an experiment.
    """

    text: str
    draw: Callable[[Source], Figure | None]
    across: bool = False


FIGURES: dict[str, Drawing] = {
    "accuracy": Drawing(
        "Test accuracy of a member, of the merged network and of the ensemble, by method, with the"
        " megabytes that a member sends",
        lambda of: accuracy_plot.draw(of.cells),
    ),
    "bytes": Drawing(
        "Accuracy against the bytes that a member sends",
        lambda of: pareto_plot.draw_bytes(of.cells),
    ),
    "barrier": Drawing(
        "Loss and accuracy on the way from one member to another, by method",
        lambda of: barrier_plot.draw(of.of_experiment(of.records.barrier), of.curves),
    ),
    "pairs": Drawing(
        "Loss barrier between every two members, by method",
        lambda of: pairs_plot.draw(of.of_experiment(of.records.barrier), of.curves),
    ),
    "simplex": Drawing(
        "Accuracy and loss over the triangle that three members span, by method",
        lambda of: simplex_plot.draw(of.of_experiment(of.records.simplex), of.curves),
    ),
    "corruption": Drawing(
        "Accuracy on corrupted test images over the severity, by method",
        lambda of: corruption_plot.draw(of.of_experiment(of.records.corruption), of.curves),
    ),
    "training": Drawing(
        "Validation accuracy, training loss, distance to consensus and bytes sent over"
        " the training, by method",
        lambda of: training_plot.draw(of.events, of.curves, of.records.options.target),
    ),
    "ablation": Drawing(
        "Accuracy against the settings of a method",
        lambda of: ablation_plot.draw(ablation_plot.option_sweeps(of.cells)),
    ),
    "settings": Drawing(
        "Accuracy against the settings of the training",
        lambda of: ablation_plot.draw(ablation_plot.setting_sweeps(of.cells)),
        across=True,
    ),
    "consensus": Drawing(
        "Distance to consensus over the training, in all and by layer",
        lambda of: consensus_plot.draw(of.events, of.curves),
    ),
}
ALL = tuple(FIGURES)


def parse_names(text: str) -> tuple[str, ...]:
    """Split names at commas, or take ``all`` or ``none``; a UsageError for an unknown name."""
    words = [word.strip() for word in text.split(",") if word.strip()]
    if words in (["all"], ["none"]):
        return ALL if words == ["all"] else ()
    for word in words:
        if word not in ALL:
            hint = nearest(word, [*ALL, "all", "none"])
            raise UsageError(f"--figures {text}: there is no figure {word!r}: {hint}")
    if not words:
        raise UsageError(f"--figures names no figure: choose all, none or of {', '.join(ALL)}")
    return tuple(name for name in ALL if name in words)


def write_figures(
    records: Records, out: Path, names: Collection[str] | None, formats: Sequence[str]
) -> list[Path]:
    """Write figures into the folder ``out``, in files of these formats (``png``, ``svg``, ...)."""
    paths = []
    for stem, figure in figures(records, ALL if names is None else names):
        with style.styled():
            for form in formats:
                paths.append(out / f"{stem}.{form}")
                style.save(figure, paths[-1])
    return paths


def figures(records: Records, names: Collection[str] = ALL) -> Iterator[tuple[str, Figure]]:
    """Yield each figure with its name (without ending), experiment by experiment."""
    for stem, source, drawing in _sources(records, names):
        if figure := drawing.draw(source):
            yield stem, figure


def _sources(records: Records, names: Collection[str]) -> Iterator[tuple[str, Source, Drawing]]:
    """Yield each figure's name, with the experiment's id where there are several, and its data."""
    finished = records.summary[records.summary["status"] == "finished"]  # others broke off
    finished = without_copies(_literal(finished))
    experiments = [experiment_id for experiment_id, _ in records.experiments()]
    wanted = {name: drawing for name, drawing in FIGURES.items() if name in names}
    for experiment_id in experiments:
        tail = f"-{experiment_id}" if len(experiments) > 1 else ""
        source = Source(finished[finished["experiment_id"] == experiment_id], records)
        for name, drawing in wanted.items():
            if not drawing.across:
                yield name + tail, source, drawing
    source = Source(finished, records)
    for name, drawing in wanted.items():
        if drawing.across:
            yield name, source, drawing


def _literal(cells: pd.DataFrame) -> pd.DataFrame:
    """A dollar in a name is a dollar; matplotlib would begin a formula with it."""
    escaped = {name: r"\$" for name in ("dataset", "model", "method", "variant")}
    escaped["options"] = r"\\$"  # JSON, in which the backslash needs one too
    return cells.assign(
        **{name: cells[name].str.replace("$", to, regex=False) for name, to in escaped.items()}
    )
