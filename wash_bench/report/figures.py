"""The figures of a report: which there are, and what each of them is drawn from."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from wash_bench.errors import UsageError, nearest
from wash_bench.report import (
    ablation_plot,
    barrier_plot,
    consensus_plot,
    pareto_plot,
    simplex_plot,
    style,
    training_plot,
)
from wash_bench.report.frames import Records
from wash_bench.report.variants import curves as curves_of

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

FORMATS = ("png", "svg")
# Those of one experiment, and the one that sets experiments side by side.
NAMES = ("barrier", "simplex", "training", "consensus", "bytes", "inference", "ablation")
ACROSS = "settings"
ALL = (*NAMES, ACROSS)


def parse_names(text: str) -> tuple[str, ...]:
    """``all``, ``none`` or names separated by commas, as names.

    Raises:
        UsageError: there is no such figure.
    """
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


def write_figures(records: Records, out: Path, names: Collection[str] = ALL) -> list[Path]:
    """Write the figures as PNG and SVG into ``out``.

    With several experiments, the names end in the experiment's id. A figure whose data was not
    recorded is left out.
    """
    paths = []
    for stem, figure in figures(records, names):
        with style.styled():
            for form in FORMATS:
                path = out / f"{stem}.{form}"
                style.save(figure, path)
                paths.append(path)
    return paths


def figures(records: Records, names: Collection[str] = ALL) -> Iterator[tuple[str, Figure]]:
    """The name (without ending) and the figure, experiment by experiment."""
    experiments = list(records.experiments())
    for experiment_id, cells in experiments:
        tail = f"-{experiment_id}" if len(experiments) > 1 else ""
        cells = cells[cells["status"] == "finished"]  # the others broke off somewhere
        for name in NAMES:
            if name in names and (figure := _draw(name, records, experiment_id, cells)):
                yield name + tail, figure
    if ACROSS in names:
        finished = records.summary[records.summary["status"] == "finished"]
        if figure := ablation_plot.draw(ablation_plot.setting_sweeps(finished)):
            yield ACROSS, figure


def _draw(name: str, records: Records, experiment_id: str, cells: pd.DataFrame) -> Figure | None:
    curves = curves_of(cells)
    match name:
        case "barrier":
            points = records.barrier
            return barrier_plot.draw(points[points["experiment_id"] == experiment_id], curves)
        case "simplex":
            points = records.simplex
            return simplex_plot.draw(points[points["experiment_id"] == experiment_id], curves)
        case "bytes":
            return pareto_plot.draw_bytes(cells)
        case "inference":
            return pareto_plot.draw_inference(cells)
        case "ablation":
            return ablation_plot.draw(ablation_plot.option_sweeps(cells))
    events = records.events[records.events["training_id"].isin(cells["training_id"])]
    if name == "consensus":
        return consensus_plot.draw(events, curves)
    return training_plot.draw(events, curves)
