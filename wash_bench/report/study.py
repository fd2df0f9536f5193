"""What is written when a study has been run: the table of its rows, or a report of its cells."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from wash_bench.files import write_text
from wash_bench.report import style
from wash_bench.report.csv_text import csv_text
from wash_bench.report.figures import budget_plot, rows_plot
from wash_bench.report.figures.catalogue import parse_names
from wash_bench.report.published import Published
from wash_bench.report.tables.study import StudyTable
from wash_bench.report.write import write_report

if TYPE_CHECKING:
    from rich.console import Console

    from wash_bench.study.file import Study


def write_study(
    study: Study,
    out: Path,
    folder: Path,
    *,
    numbers: Sequence[Published] = (),
    console: Console | None = None,
) -> tuple[str, list[Path]]:
    """Write what a study's file asks for.

    Args:
        study: the study.
        out: its run folder.
        folder: where the table of the rows, or the kept files of a report, are written.
        numbers: published ones.
        console: prints the table of a report.

    Returns:
        The table of the rows as Markdown, empty for a report, and the files.
    """
    wanted = study.file.report
    if wanted.layout == "paper":
        table = StudyTable.of(study, out, numbers)
        return table.table().markdown(), write_table(table, folder)
    report = out / "report"
    written = write_report(
        [*wanted.runs, out],
        report,
        console=console,
        figures=parse_names(wanted.figures),
        layout=wanted.layout,
    )
    if wanted.keep is None:
        return "", written
    folder.mkdir(parents=True, exist_ok=True)
    patterns = [*wanted.files, *(["methods.md"] if wanted.layout == "methods" else [])]
    remaining = [path for pattern in patterns for path in sorted(report.glob(pattern))]
    return "", [Path(shutil.copyfile(path, folder / path.name)) for path in remaining]


def write_table(table: StudyTable, folder: Path) -> list[Path]:
    """Write NAME-SCALE.md, .csv, and the figure as .png and .svg into ``folder``."""
    stem = table.study.stem
    text = {".md": table.table().markdown(), ".csv": csv_text(table.frame())}
    paths = [folder / f"{stem}{ending}" for ending in text]
    for path, content in zip(paths, text.values(), strict=True):
        write_text(path, content)
    if figure := budget_plot.draw(table) or rows_plot.draw(table):
        with style.styled():
            for form in ("png", "svg"):
                paths.append(folder / f"{stem}.{form}")
                style.save(figure, paths[-1])
    return paths
