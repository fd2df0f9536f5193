"""Records and tables of run folders, as frames of pandas, and their figures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from wash_bench.report.read.frames import Records


def load(*runs: str | Path, methods: Sequence[str] = ()) -> Records:
    """All records in run folders, or in folders of some; with ``methods`` those of these.

    Returns:
        Frames: ``summary`` (a row a cell), ``events``, ``barrier``, ``simplex``, ``environments``;
        and ``warnings`` of what could not be read. A UsageError if there is no such folder, a
        WashBenchError without any record.
    """
    from wash_bench.report.read.frames import load as load_frames

    return load_frames([Path(folder) for folder in runs], methods)


def table(*runs: str | Path, digits: int = 2, methods: Sequence[str] = ()) -> pd.DataFrame:
    """The main table of run folders, as a report has it.

    Args:
        *runs: the folders.
        digits: decimals of the accuracies.
        methods: of the rows; empty for all.

    Returns:
        A row a method, entries as text; with several experiments they stand in the first column.
    """
    import pandas as pd

    from wash_bench.report.tables.main_table import main_tables

    tables = main_tables(load(*runs, methods=methods), digits=digits)
    frames = [each.frame() for each in tables]
    if len(frames) == 1:
        return frames[0]
    for each, frame in zip(tables, frames, strict=True):
        frame.insert(0, "experiment", each.title)
    return pd.concat(frames, ignore_index=True)


def figures(*runs: str | Path, names: str = "all", style: str = "plain") -> dict[str, Figure]:
    """The figures of run folders, as a report has them.

    Args:
        *runs: the folders.
        names: which, separated by commas, as of ``report --figures``.
        style: ``plain``, ``neurips``, ``icml`` or ``ieee``, as of ``report --style``.

    Returns:
        Figures of matplotlib by name, with the experiment's id where there are several; those whose
        data were recorded. A UsageError names what there is where a name is none.
    """
    from wash_bench.report.figures.catalogue import figures as drawn
    from wash_bench.report.figures.catalogue import parse_names
    from wash_bench.report.style import check_paper, made_for

    wanted = parse_names(names)
    with made_for(check_paper(style)):
        return dict(drawn(load(*runs), wanted))
