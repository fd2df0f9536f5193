"""Write a report's folder: a page, tables as CSV, Markdown and LaTeX, and the figures.

A report of the same records that is there already is left as it is and imports nothing heavy.
"""

from __future__ import annotations

import contextlib
import importlib.util
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wash_bench.errors import UsageError, WashBenchError
from wash_bench.files import check_own, remove
from wash_bench.report.cache import CacheManifest, code_digest, file_digest, records_digest
from wash_bench.report.csv_text import csv_text
from wash_bench.report.options import ReportOptions
from wash_bench.report.style import made_for
from wash_bench.report.tables.terminal import print_tables

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
RARE = ("simplex", "corruption")  # tables that few runs have
TEXTS = ("table.md", "table.tex", "commands.sh")
FILES = ("report.html", *(f"{name}.csv" for name in TABLES), *TEXTS)
STAGE, LOCK = ".report-", ".report.lock"


def write_report(
    roots: Sequence[Path], out: Path, *, console: Console | None = None, **options: Any
) -> list[Path]:
    """Report on run folders into the folder ``out``.

    Everything is made in a temporary folder first and moved at the end, so an older report
    stands until the new one is whole. Where ``out`` holds the report of these records, made by
    this code with these options, it is not made again.

    A UsageError if a root is no folder, ``out`` cannot be written, pyarrow is missing, no
    experiment has the baseline, or an option cannot be; a WashBenchError without any record, or
    if the disk is full.

    Args:
        roots: run folders, or folders of some.
        out: the report's folder.
        console: prints the main tables too.
        **options: fields of ``ReportOptions``.

    Returns:
        The files of the report: report.html, summary.csv, events.csv, barrier.csv,
        environment.csv, table.md, table.tex, commands.sh and the figures; comparisons.csv where
        there is a baseline, target.csv with a target, methods.md in the layout ``methods``.
    """
    request = ReportOptions(**options)
    if request.parquet:
        need_pyarrow()
    out = Path(out)
    source = f"{records_digest(roots)} {code_digest()} {request}"
    manifest = CacheManifest.read(out)
    if not manifest.is_current(out, source):
        check_own(out, FILES, partial(manifest.owns, out))
        with made_for(request.paper):
            manifest = _make(roots, out, source, request)
    if console is not None:
        print_tables(manifest.tables, manifest.warnings, console)
    return [out / name for name in manifest.files]


@contextlib.contextmanager
def _alone(out: Path) -> Iterator[None]:
    """Let one process at a time write a report, and remove what a killed one left.

    Raises:
        UsageError: nothing can be written there.
    """
    from wash_bench.record.locks import hold_file

    try:
        out.mkdir(parents=True, exist_ok=True)
        with hold_file(out / LOCK):
            for left in out.glob(f"{STAGE}*"):
                remove(left)
            yield
    except OSError as error:
        raise UsageError(
            f"cannot write the report to {out}: {error.strerror}; choose another --out"
        ) from None


def _make(roots: Sequence[Path], out: Path, source: str, options: ReportOptions) -> CacheManifest:
    """Make a report.

    Returns:
        What was made, by this process or by another one that was faster.
    """
    from wash_bench.report.read.frames import load
    from wash_bench.report.tables.main_table import check_baseline, check_columns

    records = load(roots, options.methods)
    records.options = options
    check_baseline(records)
    check_columns(records)
    with _alone(out):
        before = CacheManifest.read(out)
        return before if before.is_current(out, source) else _replace(records, out, before, source)


def _replace(records: Records, out: Path, before: CacheManifest, source: str) -> CacheManifest:
    """Make the report in a temporary folder, then put it in place of the one before.

    Returns:
        What was made.

    Raises:
        WashBenchError: the disk is full.
    """
    from wash_bench.report.tables.main_table import main_tables
    from wash_bench.report.tables.time_to_accuracy import target_tables

    stage = Path(tempfile.mkdtemp(prefix=STAGE, dir=out))
    try:
        paths = _fill(records, stage)
        made = CacheManifest(
            source=source,
            files={path.name: file_digest(path) for path in paths},
            tables=[*main_tables(records, digits=1), *target_tables(records)],
            warnings=records.warnings,
        )
        check_own(out, made.files, partial(before.owns, out))
        old = [name for name in before.files if not before.changed(out, name)]
        # Of half a report it is known which files are the report's.
        CacheManifest(files=before.files | made.files).write(out)
        for path in paths:
            path.replace(out / path.name)
        for name in set(old) - set(made.files):  # what this report does not have
            (out / name).unlink(missing_ok=True)
        made.write(out)
    except OSError as error:
        raise WashBenchError(
            f"cannot write the report to {out}: {error.strerror or error}; the run is safe,"
            " 'wash-bench report' makes it again"
        ) from None
    finally:
        shutil.rmtree(stage, ignore_errors=True)
    return made


def markdown(records: Records) -> str:
    """Write the text of table.md."""
    from wash_bench.report.tables.main_table import main_tables
    from wash_bench.report.tables.markdown import escape
    from wash_bench.report.tables.time_to_accuracy import target_tables

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


def _fill(records: Records, folder: Path) -> list[Path]:
    """Write all files into ``folder``."""
    from wash_bench.report.command import script
    from wash_bench.report.figures.catalogue import write_figures
    from wash_bench.report.page import write_page
    from wash_bench.report.tables.latex import latex
    from wash_bench.report.tables.main_table import comparisons, methods_text
    from wash_bench.report.tables.time_to_accuracy import reached

    options = records.options
    present = TABLES | {name: name for name in RARE if len(getattr(records, name))}
    frames = {name: getattr(records, attribute) for name, attribute in present.items()}
    if options.target is not None:
        frames["target"] = reached(records, options.target)
    if len(compared := comparisons(records)):
        frames["comparisons"] = compared
    paths = []
    for name, frame in frames.items():
        paths.append(folder / f"{name}.csv")
        paths[-1].write_text(csv_text(frame), encoding="utf-8", errors="backslashreplace")
        if options.parquet:
            paths.append(folder / f"{name}.parquet")
            _uniform(frame).to_parquet(paths[-1], engine="pyarrow", index=False)
    texts = {
        "table.md": markdown(records),
        "table.tex": latex(records),
        "commands.sh": script(records),
    }
    if options.layout == "methods":
        texts["methods.md"] = methods_text(records)
    for name, text in texts.items():
        paths.append(folder / name)
        paths[-1].write_text(text, encoding="utf-8", errors="backslashreplace")
    figures = write_figures(records, folder, options.figures, options.formats)
    page = write_page(records, figures, folder / "report.html")
    return [page, *paths, *figures]


def _uniform(frame: pd.DataFrame) -> pd.DataFrame:
    """Give each column one type, as Parquet has them: what is mixed becomes text."""
    from pandas.api.types import infer_dtype

    mixed = [name for name in frame.columns if infer_dtype(frame[name]).startswith("mixed")]
    text = {name: frame[name].map(str).where(frame[name].notna(), None) for name in mixed}
    return frame.assign(**text)
