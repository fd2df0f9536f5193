"""The report's folder: a page, tables as CSV, Markdown and LaTeX, the environment, the figures.

A report that is there already, of the same records, is left as it is and imports nothing heavy.
"""

from __future__ import annotations

import importlib.util
import re
import shutil
import tempfile
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from wash_bench.errors import UsageError, WashBenchError
from wash_bench.report import kept
from wash_bench.report.figures.catalogue import ALL
from wash_bench.report.figures.draw import Helpers, begin_figures
from wash_bench.report.inputs import of_code, of_file, of_records
from wash_bench.report.shown import LAYOUTS, Shown, check_layout, check_margin
from wash_bench.report.style import made_for
from wash_bench.report.tables.terminal import print_tables
from wash_bench.report.tables.time_to_accuracy import check_target, reached, target_tables

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import Console

    from wash_bench.report.read.frames import Records

TABLES = {
    "summary": "summary",
    "events": "events",
    "barrier": "barrier",
    "environment": "environments",
}
TARGET, COMPARISONS = "target", "comparisons"  # tables that are there if they were asked for
RARE = ("simplex", "corruption")  # tables that few runs have
METHODS = "methods.md"
# Figures of an older report that had other experiments.
_FIGURE = re.compile(rf"({'|'.join(ALL)})(-.+-[0-9a-f]{{8}}|-[0-9a-f]{{8}})?\.(png|svg|pdf)")


def write_report(
    roots: Sequence[Path],
    out: Path,
    *,
    console: Console | None = None,
    parquet: bool = False,
    figures: Collection[str] = ALL,
    baseline: str = "",
    target: float | None = None,
    paper: str = "plain",
    columns: Sequence[str] = (),
    margin: float | None = None,
    layout: str = LAYOUTS[0],
    helpers: int | None = None,
) -> list[Path]:
    """Report on run folders into the folder ``out``; ``console`` prints the table too.

    With a ``baseline``, a method or a variant's name, every row has its difference to it, and
    within a ``margin`` in points of accuracy a row counts as equivalent to it; with a
    ``target``, an accuracy in per cent, a table says when it was reached. ``paper``, of
    ``style.PAPERS``, sets widths and fonts of figures and of table.tex; ``columns``, keys of
    ``metrics.METRICS``, are those of the tables; ``helpers`` is how many processes help to draw
    (``draw.Helpers``).

    Everything is made in a temporary folder first and moved at the end, so an older report
    stands until the new one is whole. Where ``out`` holds the report of these records it is not
    made again, and of another one the figures are taken whose data are the same.

    A UsageError if a root is not a folder, ``out`` cannot be written, pyarrow is missing, no
    experiment has the baseline, or the target is no accuracy; a WashBenchError without any record,
    or if the disk is full.

    Returns:
        The files of the report: report.html, summary.csv, events.csv, barrier.csv,
        environment.csv, table.md, table.tex, commands.sh and the figures; with a baseline
        comparisons.csv, in the layout ``methods`` methods.md.
    """
    if parquet:
        need_pyarrow()
    check_target(target)
    check_margin(margin)
    check_layout(layout)
    out = Path(out)
    asked = [name for name in ALL if name in figures]
    source = f"{of_records(roots)} {of_code()} {','.join(asked)} {'parquet' * parquet} {baseline}"
    source += f" {target} {paper} {','.join(columns)} {margin} {layout}"
    made = kept.read(out)
    if not made.holds(out, source):
        shown = Shown(baseline, target, columns, margin, layout)
        with made_for(paper), Helpers(helpers if asked else 0) as drawing:
            made = _made(roots, out, made, source, parquet, asked, shown, drawing)
    if console is not None:
        print_tables(made.tables, made.warnings, console)
    return [out / name for name in made.files]


def _made(
    roots: Sequence[Path],
    out: Path,
    before: kept.Made,
    source: str,
    parquet: bool,
    figures: Collection[str],
    shown: Shown,
    drawing: Helpers,
) -> kept.Made:
    """Make the report, with what it can take of the one before it."""
    from wash_bench.report.read.frames import load
    from wash_bench.report.tables.main_table import check_baseline, check_columns, main_tables

    records = load(roots)
    records.shown = shown
    check_baseline(records)
    check_columns(records)
    try:
        out.mkdir(parents=True, exist_ok=True)
        stage = Path(tempfile.mkdtemp(prefix=".report-", dir=out))
    except OSError as error:
        raise UsageError(
            f"cannot write the report to {out}: {error.strerror}; choose another --out"
        ) from None
    try:
        drawn = kept.Drawn(out, before)
        paths = _fill(records, stage, parquet, figures, drawn, drawing)
        made = kept.Made(
            source=source,
            files={path.name: of_file(path) for path in paths},
            figures=drawn.sources,
            tables=[*main_tables(records, digits=1), *target_tables(records)],
            warnings=records.warnings,
        )
        kept.forget(out)
        for path in paths:
            path.replace(out / path.name)
        for path in out.iterdir():
            old_table = path.stem in (*RARE, TARGET, COMPARISONS) and path.suffix in (
                ".csv",
                ".parquet",
            )
            old_table |= path.suffix == ".parquet" and path.stem in TABLES
            old_table |= path.name == METHODS and METHODS in before.files
            if path.name not in made.files and (old_table or _FIGURE.fullmatch(path.name)):
                path.unlink()
        kept.write(out, made)
    except OSError as error:
        raise WashBenchError(
            f"cannot write the report to {out}: {error.strerror or error}; the run is safe,"
            " 'wash-bench report' makes it again"
        ) from None
    finally:
        shutil.rmtree(stage, ignore_errors=True)
    return made


def markdown(records: Records) -> str:
    """The text of table.md."""
    from wash_bench.report.tables.main_table import main_tables
    from wash_bench.report.tables.markdown import escape

    parts = [table.markdown() for table in (*main_tables(records), *target_tables(records))]
    if records.warnings:
        parts.append(
            "## Not in this report\n\n"
            + "".join(f"- {escape(warning)}\n" for warning in records.warnings)
        )
    return "\n".join(parts)


def need_pyarrow() -> None:
    """Find out early whether Parquet can be written: a UsageError if not."""
    if importlib.util.find_spec("pyarrow") is None:
        raise UsageError("--parquet needs pyarrow: pip install 'wash-bench[parquet]'")


def _fill(
    records: Records,
    folder: Path,
    parquet: bool,
    names: Collection[str],
    drawn: kept.Drawn,
    drawing: Helpers,
) -> list[Path]:
    """Write all files into ``folder``; the figures, which take longest, are begun first."""
    from wash_bench.report.command import script
    from wash_bench.report.page import write_page
    from wash_bench.report.tables.latex import latex
    from wash_bench.report.tables.main_table import comparisons
    from wash_bench.report.tables.methods import methods_text

    figures = begin_figures(records, folder, names, drawn, drawing)
    paths = []
    asked = TABLES | {name: name for name in RARE if len(getattr(records, name))}
    tables = {name: getattr(records, attribute) for name, attribute in asked.items()}
    if records.shown.target is not None:
        tables[TARGET] = reached(records, records.shown.target)
    if len(compared := comparisons(records)):
        tables[COMPARISONS] = compared
    for name, frame in tables.items():
        paths.append(folder / f"{name}.csv")
        frame.to_csv(paths[-1], index=False, lineterminator="\n")
        if parquet:
            paths.append(folder / f"{name}.parquet")
            _uniform(frame).to_parquet(paths[-1], engine="pyarrow", index=False)
    texts = {
        "table.md": markdown(records),
        "table.tex": latex(records),
        "commands.sh": script(records),
    }
    if records.shown.layout == "methods":
        texts[METHODS] = methods_text(records)
    for name, text in texts.items():
        paths.append(folder / name)
        paths[-1].write_text(text, encoding="utf-8")
    drawings = figures()
    page = write_page(records, drawings, folder / "report.html")
    return [page, *paths, *drawings]


def _uniform(frame: pd.DataFrame) -> pd.DataFrame:
    """Columns of one type each, as Parquet has them: what is mixed becomes text."""
    from pandas.api.types import infer_dtype

    mixed = [name for name in frame.columns if infer_dtype(frame[name]).startswith("mixed")]
    text = {name: frame[name].map(str).where(frame[name].notna(), None) for name in mixed}
    return frame.assign(**text)
