"""Two reports side by side, against differences worked out here."""

from __future__ import annotations

import json
import math
import statistics

import pandas as pd
import pytest

from tests.support.records import write_cell
from wash_bench.cli.main import run_command
from wash_bench.errors import UsageError, WashBenchError
from wash_bench.report.numbers.stats import Estimate
from wash_bench.report.tables.compare import Row, compare
from wash_bench.report.write import write_report

T2 = 4.302653  # Student's t, 97.5 %, two degrees of freedom


def side(folder, accuracies, method="wash", **more):
    for seed, accuracy in accuracies.items():
        write_cell(folder, method, seed, summary={"average_acc": accuracy}, **more)
    return folder


def row(comparison, metric="averaged (%)", method="wash") -> Row:
    (found,) = (r for r in comparison.rows if (r.metric, r.method) == (metric, method))
    return found


def environment(folder, **facts):
    for path in (folder / "trainings").glob("*/environment.json"):
        path.write_text(json.dumps(json.loads(path.read_text()) | facts))


def test_differences_are_paired_over_common_seeds(tmp_path):
    # B - A at seeds 1, 2, 3: 1.0, 1.2, 1.4; seeds 0 and 4 have no partner.
    a = side(tmp_path / "a", {0: 10.0, 1: 80.0, 2: 60.0, 3: 90.0})
    b = side(tmp_path / "b", {1: 81.0, 2: 61.2, 3: 91.4, 4: 99.0})
    found = row(compare(a, b))
    assert found.seeds == (1, 2, 3)
    assert found.difference.mean == pytest.approx(1.2)
    assert found.difference.half_width == pytest.approx(T2 * 0.2 / math.sqrt(3), abs=1e-5)
    assert found.verdict == "significantly different"
    assert (found.a.n, found.a.mean) == (4, 60.0)
    back = row(compare(b, a))
    assert back.difference.mean == pytest.approx(-1.2)


def test_noise_equality_and_one_seed(tmp_path):
    a = side(tmp_path / "a", {0: 80.0, 1: 81.0, 2: 82.0})
    b = side(tmp_path / "b", {0: 80.5, 1: 80.4, 2: 82.3})
    assert row(compare(a, b)).verdict == "not significantly different"
    assert row(compare(a, b), "MB sent").verdict == "equal"
    c = side(tmp_path / "c", {2: 99.0})
    assert row(compare(a, c)).verdict == "too few seeds"
    assert row(compare(a, a)).verdict == "equal"


def test_without_a_common_seed_the_interval_is_welchs(tmp_path):
    one, other = [80.0, 81.0, 83.0], [85.0, 88.0, 86.5]
    a = side(tmp_path / "a", dict(enumerate(one)))
    b = side(tmp_path / "b", dict(enumerate(other, start=7)))
    found = row(compare(a, b))
    assert found.seeds == ()
    # Welch by hand: s^2/n of each, Satterthwaite's degrees of freedom.
    from scipy.stats import t

    parts = [statistics.variance(values) / len(values) for values in (one, other)]
    freedom = sum(parts) ** 2 / sum(
        part**2 / (len(values) - 1) for part, values in zip(parts, (one, other), strict=True)
    )
    assert found.difference.mean == pytest.approx(86.5 - statistics.fmean(one))
    expected = t.ppf(0.975, freedom) * math.sqrt(sum(parts))
    assert found.difference.half_width == pytest.approx(expected)
    assert "unpaired (3 and 3)" in compare(a, b).markdown()


def test_what_differs_is_said_first(tmp_path):
    a = side(tmp_path / "a", {0: 80.0}, options={"p": 0.05, "k": 1})
    b = side(tmp_path / "b", {0: 81.0}, options={"p": 0.2, "k": 1}, lr=0.05, train_limit=5000)
    write_cell(tmp_path / "a", "papa", 0)
    environment(a, torch="2.9.0")
    environment(b, torch="2.10.0")
    comparison = compare(a, b)
    told = comparison.differences
    assert "lr: 0.1 in A, 0.05 in B" in told
    assert "train-limit: 0 in A, 5000 in B" in told
    assert "torch: 2.9.0 in A, 2.10.0 in B" in told
    assert "wash: p=0.05 in A, p=0.2 in B" in told
    assert "only in A: papa" in told
    assert not any("CPU" in text or text.startswith("wash: k") for text in told)
    text = comparison.markdown()
    assert text.index("lr: 0.1 in A") < text.index("| method |")
    same = compare(a, a)
    assert same.differences == []
    assert "are the same" in same.markdown()


def test_settings_of_a_method_find_their_like(tmp_path):
    a, b = tmp_path / "a", tmp_path / "b"
    for p, shift in ((0.05, 0.0), (0.2, 10.0)):
        side(a, {0: 50.0 + shift}, options={"p": p})
        side(b, {0: 51.0 + shift}, options={"p": p})
    rows = [r for r in compare(a, b).rows if r.metric == "averaged (%)"]
    assert [r.method for r in rows] == ["wash (p=0.05)", "wash (p=0.2)"]
    assert [r.difference.mean for r in rows] == [1.0, 1.0]
    # Alone on the other side, the same setting has a shorter name.
    c = side(tmp_path / "c", {0: 52.0}, options={"p": 0.05})
    (only,) = (r for r in compare(a, c).rows if r.metric == "averaged (%)")
    assert (only.method, only.difference.mean) == ("wash (p=0.05) / wash", 2.0)


@pytest.mark.slow
def test_a_report_and_its_run_folder_are_equal(recorded, reported):
    comparison = compare(recorded, reported)
    assert comparison.differences == []
    assert {row.verdict for row in comparison.rows} == {"equal"}
    assert {row.method for row in comparison.rows} >= {"wash", "papa", "naive-ensemble"}


def test_a_difference_that_no_column_shows_is_said(tmp_path):
    a = side(tmp_path / "a", {0: 80.0})
    b = side(tmp_path / "b", {0: 80.0})
    (path,) = (b / "cells").glob("*.json")
    path.write_text(json.dumps(json.loads(path.read_text()) | {"experiment_id": "other"}))
    (told,) = compare(a, b).differences
    assert "something that summary.csv does not show" in told


@pytest.mark.fault("Names and texts", "bars and markup in names, in Markdown", "shown as text")
def test_the_markdown_table_has_equal_rows_and_names_stay_text(tmp_path):
    a = side(tmp_path / "a|b", {0: 80.0}, method="my|rule")
    b = side(tmp_path / "b", {0: 81.0}, method="my|rule")
    text = compare(a, b).markdown()
    lines = [line for line in text.splitlines() if line.startswith("|")]
    pipes = {line.replace("\\|", "").count("|") for line in lines}
    assert pipes == {8}
    assert any(line.startswith("| my\\|rule | averaged (%) | 80.00 | 81.00 | +1.00 |")
               for line in lines)  # fmt: skip


def test_values_that_are_missing_are_no_difference():
    nothing = Estimate(math.nan, None, None, 0)
    assert Row("e", "m", "x", nothing, nothing, nothing, ()).verdict == "–"


def test_errors_are_one_line_with_the_fix(tmp_path):
    a = side(tmp_path / "a", {0: 80.0})
    b = side(tmp_path / "b", {0: 80.0}, population=5)
    with pytest.raises(WashBenchError, match="no experiment in common"):
        compare(a, b)
    with pytest.raises(UsageError, match="give a report or a run folder"):
        compare(a, tmp_path / "none")
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "summary.csv").write_text("x,y\n1,2\n")
    with pytest.raises(UsageError, match=r"summary\.csv lacks dataset"):
        compare(a, tmp_path / "broken")
    (tmp_path / "broken" / "summary.csv").write_text("")
    with pytest.raises(UsageError, match="no report that can be read"):
        compare(a, tmp_path / "broken")


def test_the_command(tmp_path, capsys):
    a = side(tmp_path / "a", {0: 80.0, 1: 82.0})
    b = side(tmp_path / "b", {0: 81.0, 1: 83.5})
    write_report([b], tmp_path / "report", figures=())
    paths = [str(a), str(tmp_path / "report")]
    assert run_command(["compare", *paths]) == 0
    shown = capsys.readouterr().out
    assert "| wash | averaged (%) | 81.00 | 82.25 | +1.00, +1.50 |" in shown
    assert run_command(["compare", *paths, "--out", str(tmp_path / "c.csv")]) == 0
    table = pd.read_csv(tmp_path / "c.csv").set_index("metric")
    assert table.loc["averaged (%)", "difference"] == pytest.approx(1.25)
    assert table.loc["averaged (%)", "paired_seeds"] == "0 1"
    assert run_command(["compare", *paths, "--out", str(tmp_path / "c.md")]) == 0
    assert (tmp_path / "c.md").read_text() == shown
    capsys.readouterr()
    assert run_command(["compare", *paths, "--out", str(tmp_path / "c.txt")]) == 2
    assert "must end in .md or .csv" in capsys.readouterr().err


@pytest.mark.fault(
    "Records and reports", "text for a number in a report that is compared", "named and left out"
)
def test_text_for_a_number_is_named_and_left_out(tmp_path, capsys):
    side(tmp_path / "run", {0: 80.0, 1: 81.0, 2: 82.0})
    write_report([tmp_path / "run"], tmp_path / "a", figures=())
    write_report([tmp_path / "run"], tmp_path / "b", figures=())
    table = pd.read_csv(tmp_path / "b" / "summary.csv", dtype=str)
    table["average_acc"] = ["n/a?", "80.5", "[1]"]
    table["train_seconds"] = "soon"
    table.to_csv(tmp_path / "b" / "summary.csv", index=False)
    found = compare(tmp_path / "a", tmp_path / "b")
    assert found.differences[:2] == [
        f"{tmp_path / 'b' / 'summary.csv'}: average_acc is 'n/a?', which is no number, left out",
        f"{tmp_path / 'b' / 'summary.csv'}: train_seconds is 'soon', which is no number, left out",
    ]
    assert row(found).seeds == (1,) and row(found, "MB sent").seeds == (0, 1, 2)
    assert run_command(["compare", str(tmp_path / "a"), str(tmp_path / "b")]) == 0
    assert "which is no number" in capsys.readouterr().out
