"""Every row's difference to a baseline: paired by hand, in all forms of the table."""

from __future__ import annotations

import math
import statistics

import pandas as pd
import pytest

from tests.report.test_report_tables import split_row
from tests.support.records import write_cell
from wash_bench.cli.main import run_command
from wash_bench.errors import UsageError
from wash_bench.report import write
from wash_bench.report.options import ReportOptions
from wash_bench.report.read import frames
from wash_bench.report.tables.main_table import main_tables

HEADING = "delivered − papa"


def entries(recorded, baseline: str) -> dict[str, str]:
    records = frames.load([recorded])
    records.options = ReportOptions(baseline)
    (table,) = main_tables(records)
    frame = table.frame().set_index("method")
    return {str(name): str(text) for name, text in frame[f"delivered − {baseline}"].items()}


def test_a_row_has_the_paired_difference_of_what_it_delivers(recorded) -> None:
    found = entries(recorded, "papa")
    cells = frames.load([recorded]).summary
    done = cells[cells["status"] == "finished"]
    for method in set(done["method"]) - {"papa"}:
        own, base = (done[done["method"] == name].set_index("seed") for name in (method, "papa"))
        differences = [own.loc[seed, "method_acc"] - base.loc[seed, "method_acc"]
                       for seed in own.index]  # fmt: skip
        mean = statistics.fmean(differences)
        half = 4.302653 * statistics.stdev(differences) / math.sqrt(len(differences))
        expected = f"{mean:+.2f} ± {half:.2f}".replace("-", "−")
        assert found[method].removesuffix(" *") == expected or abs(mean) < 0.005
    assert found["papa"] == "–"


def test_every_form_has_the_column_and_without_a_baseline_none(recorded, tmp_path, capsys) -> None:
    command = ["report", str(recorded), "--figures", "none", "--out", str(tmp_path / "out")]
    assert run_command([*command, "--baseline", "papa"]) == 0
    assert "− base" in capsys.readouterr().out
    rows = pd.read_csv(tmp_path / "out/comparisons.csv")
    assert set(rows["baseline"]) == {"papa"} and "papa" not in set(rows["row"])
    text = (tmp_path / "out/table.md").read_text(encoding="utf-8")
    rows = [split_row(line) for line in text.splitlines() if line.startswith("|")]
    assert HEADING in rows[0] and len({len(row) for row in rows}) == 1
    assert f"- {HEADING}: accuracy in points" in text
    for name in ("report.html", "table.tex"):
        assert "delivered" in (tmp_path / "out" / name).read_text(encoding="utf-8")
    assert run_command(command) == 0  # another report: the old one is not taken for it
    assert HEADING not in (tmp_path / "out/table.md").read_text(encoding="utf-8")
    assert not (tmp_path / "out/comparisons.csv").exists()


def test_a_baseline_that_is_not_there_costs_no_report(recorded, tmp_path, capsys) -> None:
    command = ["report", str(recorded), "--figures", "none", "--out", str(tmp_path / "out")]
    assert run_command(command) == 0
    before = {path: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    assert run_command([*command, "--baseline", "pappa"]) == 2
    assert capsys.readouterr().err.endswith("--baseline pappa: did you mean 'papa'?\n")
    assert before == {path: path.read_bytes() for path in (tmp_path / "out").iterdir()}


def test_of_several_variants_one_must_be_named(tmp_path) -> None:
    for alpha in (0.5, 0.7):
        write_cell(tmp_path, "papa", 0, options={"alpha": alpha})
    with pytest.raises(UsageError, match="--baseline papa: which of papa"):
        write.write_report([tmp_path], tmp_path / "report", figures=(), baseline="papa")
    assert not (tmp_path / "report").exists()
