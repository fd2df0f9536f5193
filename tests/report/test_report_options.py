"""What the reader of a report chooses: its columns, and the paper it is for."""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd
import pytest

import wash_bench as wb
from tests.report.test_report_tables import split_row
from tests.support.command import command
from tests.support.records import write_cell
from wash_bench.report.style import PAPERS


def _table(folder: Path) -> list[str]:
    lines = (folder / "table.md").read_text(encoding="utf-8").splitlines()
    return split_row(next(line for line in lines if line.startswith("|")))


def test_columns_are_those_that_were_asked_for_in_every_form(recorded, tmp_path, capsys) -> None:
    keys = "consensus_relative,average_acc,sent_bytes_total"
    arguments = ["report", str(recorded), "--out", str(tmp_path), "--figures", "none"]
    code, out, err = command(capsys, *arguments, "--columns", keys)
    assert code == 0, err
    assert _table(tmp_path) == [
        "method", "distance to consensus, relative", "averaged", "MB sent"
    ]  # fmt: skip
    assert "distance to consensus, relative" in out and "greedy soup" not in out
    assert "greedy soup (size)" not in (tmp_path / "table.tex").read_text(encoding="utf-8")
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "greedy soup (size)" not in page.partition("Every score")[0]
    assert command(capsys, *arguments)[0] == 0
    assert "members [min, max]" in _table(tmp_path)


def test_a_baseline_is_shown_with_them(recorded, tmp_path, capsys) -> None:
    code, _, err = command(
        capsys, "report", str(recorded), "--out", str(tmp_path), "--figures", "none",
        "--columns", "average_acc", "--baseline", "papa",
    )  # fmt: skip
    assert code == 0, err
    assert _table(tmp_path) == ["method", "averaged", "delivered − papa"]


@pytest.mark.fault(
    "Records and reports", "`report --columns` or `--style` that there is not", "one line, a hint"
)
@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--columns", "averge_acc"], "did you mean 'average_acc'"),
        (["--columns", "average_acc,average_acc"], "given twice"),
        (["--columns", "corrupted_average_acc"], "none of these records has it"),
        (["--style", "nips"], "neurips"),
        (["--margin", "0"], "points of accuracy, above 0"),
    ],
)
def test_what_there_is_not_costs_no_report(recorded, tmp_path, capsys, options, words) -> None:
    out = tmp_path / "report"
    code, _, err = command(capsys, "report", str(recorded), "--out", str(out), *options)
    assert code == 2 and words in err
    assert not out.exists() or not list(out.iterdir())


def test_a_figure_is_as_wide_as_the_papers_text(recorded, tmp_path, capsys) -> None:
    widths = {}
    for paper in ("plain", "ieee"):
        out = tmp_path / paper
        arguments = ("report", str(recorded), "--out", str(out), "--figures", "training", "--pdf")
        assert command(capsys, *arguments, "--style", paper)[0] == 0
        svg = (out / "training.svg").read_text(encoding="utf-8")
        found = re.search(r'width="([\d.]+)pt"', svg)
        assert found
        widths[paper] = float(found[1]) / 72
        assert (out / "training.pdf").read_bytes().startswith(b"%PDF")
    assert widths == pytest.approx({name: PAPERS[name].text for name in widths}, abs=0.01)


def test_methods_are_the_rows_of_the_report(tmp_path: Path, capsys) -> None:
    for method in ("wash", "papa", "naive-ensemble", "greedy-soup"):
        write_cell(tmp_path / "runs", method, 0)
    out = tmp_path / "report"
    words = ("report", str(tmp_path / "runs"), f"--out={out}", "--figures=none")
    assert command(capsys, *words, "--methods=papa,wash", "--methods", "greedy-soup")[0] == 0
    frame = pd.read_csv(out / "summary.csv")
    assert set(frame["method"]) == {"papa", "wash", "greedy-soup"}
    assert set(pd.read_csv(out / "events.csv")["training_id"]) == set(frame["training_id"])
    assert "naive-ensemble" not in (out / "table.md").read_text()
    assert set(wb.table(tmp_path / "runs", methods=["wash"])["method"]) == {"wash"}
    code, _, error = command(capsys, *words, "--methods=wsah")
    assert code == 2 and "did you mean 'wash'" in error
    assert set(pd.read_csv(out / "summary.csv")["method"]) == {"papa", "wash", "greedy-soup"}
    assert command(capsys, *words)[0] == 0  # and all of them again
    assert set(pd.read_csv(out / "summary.csv")["method"]) >= {"naive-ensemble"}
