"""The report's folder and what is printed: whole, or as it was before."""

from __future__ import annotations

import csv
import io
import math
import re
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from tests.support.records import FACTS, write_cell
from wash_bench.errors import UsageError, WashBenchError
from wash_bench.report import write
from wash_bench.report.read import frames
from wash_bench.report.tables import terminal


@pytest.mark.slow
def test_several_experiments_get_figures_of_their_own(tmp_path, monkeypatch):
    out = tmp_path / "report"
    write_cell(tmp_path / "run", "wash", 0)
    write.write_report([tmp_path / "run"], out)
    assert (out / "barrier.svg").exists()
    write_cell(tmp_path / "run", "wash", 0, epochs=2)
    written = write.write_report([tmp_path / "run"], out)
    names = sorted(path.name for path in written if path.suffix == ".svg")
    each, across = "(barrier|training|consensus|bytes|accuracy)", "settings"
    assert len(names) == 2 * 5 + 1
    assert all(re.fullmatch(rf"{each}-.+-[0-9a-f]{{8}}\.svg|{across}\.svg", name) for name in names)
    # What the older report had drawn of another set of experiments would mislead here.
    assert not (out / "barrier.svg").exists()
    assert (out / "table.md").read_text().count("\n| method |") == 2


def test_an_old_report_survives_bad_input_and_a_failed_write(tmp_path, monkeypatch):
    out, run = tmp_path / "report", tmp_path / "run"
    write_cell(run, "papa", 0)
    write.write_report([run], out, figures=("bytes",))
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    with pytest.raises(WashBenchError):
        write.write_report([tmp_path / "absent"], out)

    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    write_cell(run, "papa", 1)
    monkeypatch.setattr("wash_bench.report.figures.catalogue.style.save", full)
    with pytest.raises(WashBenchError, match="No space left on device") as caught:
        write.write_report([run], out, figures=("bytes",))
    assert "\n" not in str(caught.value)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before


def test_an_out_folder_that_cannot_be_written_is_a_usage_error(recorded, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match=r"cannot write the report to .*file"):
        write.write_report([recorded], tmp_path / "file")
    with pytest.raises(UsageError, match="choose another --out"):
        write.write_report([recorded], tmp_path / "file" / "report")


@pytest.mark.parametrize("width", [80, 120])
def test_what_is_printed_is_markdown_with_the_columns_that_fit(recorded, width):
    stream = io.StringIO()
    terminal.print_table(frames.load([recorded]), Console(file=stream, width=width))
    text = stream.getvalue()
    lines = text.splitlines()
    assert max(map(len, lines)) <= width
    (start,) = (place for place, line in enumerate(lines) if line.startswith("| method"))
    table = lines[start : start + 8]
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table]
    # As GitHub has it: a blank line, the heading, the dashes, a row of as many cells a method.
    assert lines[start - 1] == lines[start + 8] == ""
    assert all(re.fullmatch(r":?-+:?", cell) for cell in rows[1])
    assert {len(row) for row in rows} == {4 if width == 80 else 7}
    assert [row[0] for row in rows[2:]] == list(FACTS)
    assert rows[0][1:3] == ["delivered", "NLL"]
    assert rows[4][1].endswith(" a")  # PAPA is the best
    for part in ("Failed: wash, seed 3", "no basin", "95 % Student", "Rows that share a letter"):
        assert part in " ".join(text.split())


@pytest.mark.parametrize("width", [40, 200])
def test_a_row_that_is_too_wide_is_not_broken(tmp_path, width):
    write_cell(tmp_path, "x" * 90 + "|y", 0)
    stream = io.StringIO()
    terminal.print_table(frames.load([tmp_path]), Console(file=stream, width=width))
    (row,) = (line for line in stream.getvalue().splitlines() if line.startswith("| xxx"))
    assert "x\\|y" in row and row.endswith("|")


def test_csv_files_parse_with_the_plainest_reader(reported):
    for name in ("summary.csv", "events.csv", "barrier.csv", "environment.csv"):
        with (reported / name).open(newline="") as file:
            rows = list(csv.reader(file))
        assert len({len(row) for row in rows}) == 1
        assert len(rows) > 1


@pytest.mark.slow
def test_reports_load_no_torch(tmp_path):
    write_cell(tmp_path / "run", "wash", 0)
    code = (
        "import sys; from pathlib import Path; from wash_bench.report.write import write_report;"
        "write_report([Path(sys.argv[1])], Path(sys.argv[2])); print('torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "run"), str(tmp_path / "report")],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "False"


@pytest.mark.slow
def test_parquet_holds_what_the_csv_files_hold(recorded, tmp_path):
    pytest.importorskip("pyarrow")
    write.write_report([recorded], tmp_path, parquet=True, figures=())
    for name in ("summary", "events", "barrier", "environment"):
        table = pd.read_parquet(tmp_path / f"{name}.parquet")
        read = pd.read_csv(tmp_path / f"{name}.csv")
        assert list(table) == list(read) and len(table) == len(read)
        for column in read.select_dtypes("number"):
            assert np.allclose(table[column].astype(float), read[column], equal_nan=True)
    # What an older report wrote of other records would mislead beside this one.
    write.write_report([recorded], tmp_path, figures=())
    assert not list(tmp_path.glob("*.parquet"))


def test_mixed_columns_become_text_for_parquet():
    frame = pd.DataFrame({"a": [1, "x", None], "b": [1.0, 2.0, math.nan]})
    assert write._uniform(frame)["a"].tolist()[:2] == ["1", "x"]
    assert pd.isna(write._uniform(frame)["a"].iloc[2])
    assert write._uniform(frame)["b"].dtype == float


def test_parquet_without_pyarrow_is_one_line_before_anything_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr("wash_bench.report.write.importlib.util.find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"pip install 'wash-bench\[parquet\]'"):
        write.write_report([tmp_path], tmp_path / "report", parquet=True)
    assert not (tmp_path / "report").exists()
