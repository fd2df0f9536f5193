"""The report's folder: a page, tables as CSV, Markdown and LaTeX, the environment, the figures."""

from __future__ import annotations

import importlib.util
import re
import shutil
import tempfile
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from wash_bench.errors import UsageError, WashBenchError
from wash_bench.report.figures import ALL
from wash_bench.report.frames import Records, load
from wash_bench.report.terminal import print_table

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import Console

TABLES = {
    "summary": "summary",
    "events": "events",
    "barrier": "barrier",
    "environment": "environments",
}
SIMPLEX = {"simplex": "simplex"}  # a table that few runs have
# Figures of an older report that had other experiments.
_FIGURE = re.compile(rf"({'|'.join(ALL)})(-.+-[0-9a-f]{{8}}|-[0-9a-f]{{8}})?\.(png|svg)")


def write_report(
    roots: Sequence[Path],
    out: Path,
    *,
    console: Console | None = None,
    parquet: bool = False,
    figures: Collection[str] = ALL,
) -> list[Path]:
    """Report on run folders into the folder ``out``; ``console`` prints the table too.

    Everything is made in a temporary folder first and moved at the end, so an older report
    stands until the new one is whole.

    Returns:
        The files written: report.html, summary.csv, events.csv, barrier.csv, environment.csv,
        table.md, table.tex and the figures.

    Raises:
        UsageError: a root is not a folder, ``out`` cannot be written, or pyarrow is missing.
        WashBenchError: no record, or the disk is full.
    """
    if parquet:
        need_pyarrow()
    records = load(roots)
    out = Path(out)
    try:
        out.mkdir(parents=True, exist_ok=True)
        stage = Path(tempfile.mkdtemp(prefix=".report-", dir=out))
    except OSError as error:
        raise UsageError(
            f"cannot write the report to {out}: {error.strerror}; choose another --out"
        ) from None
    try:
        written = []
        for path in _fill(records, stage, parquet, figures):
            written.append(path.replace(out / path.name))
        for path in out.iterdir():
            old_table = (path.suffix == ".parquet" and path.stem in TABLES) or path.stem in SIMPLEX
            if path not in written and (old_table or _FIGURE.fullmatch(path.name)):
                path.unlink()
    except OSError as error:
        raise WashBenchError(
            f"cannot write the report to {out}: {error.strerror or error}; the run is safe,"
            " 'wash-bench report' makes it again"
        ) from None
    finally:
        shutil.rmtree(stage, ignore_errors=True)
    if console is not None:
        print_table(records, console)
    return written


def markdown(records: Records) -> str:
    """The text of table.md."""
    from wash_bench.report.main_table import main_tables
    from wash_bench.report.markdown import escape

    parts = [table.markdown() for table in main_tables(records)]
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


def _fill(records: Records, folder: Path, parquet: bool, names: Collection[str]) -> list[Path]:
    """Write all files into ``folder``; the figures take longest, and the page shows them."""
    from wash_bench.report.figures import write_figures
    from wash_bench.report.latex import latex
    from wash_bench.report.page import write_page

    paths = []
    for name, attribute in (TABLES | (SIMPLEX if len(records.simplex) else {})).items():
        frame = getattr(records, attribute)
        paths.append(folder / f"{name}.csv")
        frame.to_csv(paths[-1], index=False, lineterminator="\n")
        if parquet:
            paths.append(folder / f"{name}.parquet")
            _uniform(frame).to_parquet(paths[-1], engine="pyarrow", index=False)
    for name, text in {"table.md": markdown(records), "table.tex": latex(records)}.items():
        paths.append(folder / name)
        paths[-1].write_text(text, encoding="utf-8")
    figures = write_figures(records, folder, names)
    page = write_page(records, figures, folder / "report.html")
    return [page, *paths, *figures]


def _uniform(frame: pd.DataFrame) -> pd.DataFrame:
    """Columns of one type each, as Parquet has them: what is mixed becomes text."""
    from pandas.api.types import infer_dtype

    mixed = [name for name in frame.columns if infer_dtype(frame[name]).startswith("mixed")]
    text = {name: frame[name].map(str).where(frame[name].notna(), None) for name in mixed}
    return frame.assign(**text)
