"""The figures of a report: a barrier plot and a training plot for each experiment."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from wash_bench.report import barrier_plot, style, training_plot
from wash_bench.report.frames import Records
from wash_bench.report.variants import curves as curves_of

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

FORMATS = ("png", "svg")


def write_figures(records: Records, out: Path) -> list[Path]:
    """Write ``barrier`` and ``training`` as PNG and SVG into ``out``.

    With several experiments, the names end in the experiment's id. A figure whose data was not
    recorded is left out.
    """
    paths = []
    for stem, figure in figures(records):
        with style.styled():
            for form in FORMATS:
                path = out / f"{stem}.{form}"
                style.save(figure, path)
                paths.append(path)
    return paths


def figures(records: Records) -> Iterator[tuple[str, Figure]]:
    """The name (without ending) and the figure, experiment by experiment."""
    experiments = list(records.experiments())
    for experiment_id, cells in experiments:
        tail = f"-{experiment_id}" if len(experiments) > 1 else ""
        cells = cells[cells["status"] == "finished"]  # the others broke off somewhere
        curves = curves_of(cells)
        points = records.barrier[records.barrier["experiment_id"] == experiment_id]
        events = records.events[records.events["training_id"].isin(cells["training_id"])]
        for stem, figure in (
            ("barrier", barrier_plot.draw(points, curves)),
            ("training", training_plot.draw(events, curves, _itemsize(cells))),
        ):
            if figure is not None:
                yield stem + tail, figure


def _itemsize(cells: pd.DataFrame) -> dict[str, float]:
    """Bytes of one sent value, from the ledger's totals."""
    sent = cells[cells["sent_values_total"] > 0]
    sizes = sent["sent_bytes_total"] / sent["sent_values_total"]
    return dict(zip(sent["training_id"], sizes, strict=True))
