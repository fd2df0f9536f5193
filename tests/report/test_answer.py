"""The first sentence of a report says what its numbers do, and no more."""

from __future__ import annotations

import io
import re
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rich.console import Console

from tests.support.records import write_cell
from wash_bench.report.read import frames
from wash_bench.report.tables.main_table import main_tables
from wash_bench.report.tables.terminal import print_tables
from wash_bench.report.write import write_report

RUNS = st.fixed_dictionaries(
    {
        "wash": st.lists(st.floats(70, 90), min_size=1, max_size=5),
        "papa": st.lists(st.floats(70, 90), min_size=1, max_size=5),
    }
)


def answer_of(folder: Path) -> str:
    (table,) = main_tables(frames.load([folder]))
    return table.answer


def write(folder: Path, accuracies: dict[str, list[float]], **sent: float) -> None:
    for method, values in accuracies.items():
        for seed, value in enumerate(values):
            summary = {"method_acc": value}
            if method in sent:
                summary["sent_bytes_total"] = sent[method]
            write_cell(folder, method, seed, summary=summary)


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(accuracies=RUNS)
def test_of_two_methods_the_difference_is_of_delivered_networks(
    tmp_path_factory: pytest.TempPathFactory, accuracies: dict[str, list[float]]
) -> None:
    folder = tmp_path_factory.mktemp("runs")
    write(folder, accuracies)
    text = answer_of(folder)
    common = min(map(len, accuracies.values()))
    means = {name: sum(values) / len(values) for name, values in accuracies.items()}
    for name, mean in means.items():
        assert re.search(rf"{name}( reaches)? {mean:.1f} %", text), text
    if common < 3:
        assert "too few for an interval" in text and "significant" not in text
        return
    pairs = zip(*(accuracies[name][:common] for name in sorted(means, key=means.get)), strict=True)
    differences = [high - low for low, high in pairs]
    mean = sum(differences) / common
    deviation = (sum((d - mean) ** 2 for d in differences) / (common - 1)) ** 0.5
    half = {3: 4.302653, 4: 3.182446, 5: 2.776445}[common] * deviation / common**0.5
    if abs(abs(mean) - half) > 1e-6:  # no matter of rounding
        assert ("not significantly different" in text) == (abs(mean) <= half)


def test_bytes_are_compared(tmp_path: Path) -> None:
    write(tmp_path, {"wash": [80.0] * 3, "papa": [80.5] * 3}, wash=2e6, papa=12e6)
    assert answer_of(tmp_path).endswith("wash sends 6.00 times less than papa.")


def test_many_methods_name_the_best_its_equals_and_the_cheapest(tmp_path: Path) -> None:
    accuracies = {
        "wash": [80.0, 80.4, 80.2],
        "papa": [80.3, 80.1, 80.5],
        "dart": [70.0, 70.2, 70.1],
        "naive-ensemble": [85.0, 85.1, 85.2],
    }
    write(tmp_path, accuracies, wash=2e6, papa=12e6, dart=1e6)
    text = answer_of(tmp_path)
    assert text.startswith("The best single network is papa's, with 80.3 %; the ensemble")
    assert "Not significantly less accurate: wash; of these wash sends the least, 2.00 MB" in text
    assert "dart" not in text


def test_two_seeds_of_many_methods_claim_nothing(tmp_path: Path) -> None:
    write(tmp_path, {name: [80.0, 81.0] for name in ("wash", "papa", "dart")})
    text = answer_of(tmp_path)
    assert "2 seeds: too few for an interval, run 3 or more" in text
    assert "ignificant" not in text


def test_the_answer_stands_first_everywhere(tmp_path: Path) -> None:
    write(tmp_path / "run", {"wash": [80.0] * 3, "papa": [80.5] * 3}, wash=2e6, papa=12e6)
    out, stream = tmp_path / "out", io.StringIO()
    write_report([tmp_path / "run"], out, figures=())
    text = answer_of(tmp_path / "run")
    markdown = (out / "table.md").read_text()
    assert markdown.startswith("## papa vs wash on fashion-mini (") or markdown.startswith(
        "## wash vs papa on fashion-mini ("
    )
    assert 0 < markdown.index(text) < markdown.index("| method |")
    page = (out / "report.html").read_text()
    assert 0 < page.index(text) < page.index("<table")
    print_tables(main_tables(frames.load([tmp_path / "run"])), (), Console(file=stream, width=70))
    shown = " ".join(stream.getvalue().split())
    assert text in shown
    assert "MB sent" in shown and "barrier" in shown  # as columns, or as left out


def test_a_row_that_was_not_compared_is_not_called_worse(tmp_path: Path) -> None:
    write(tmp_path, {"wash": [80.0, 80.2, 80.4], "papa": [70.0, 70.2, 70.1], "dart": [80.1]})
    text = answer_of(tmp_path)
    assert "Not compared (too few common seeds, or collapsed): dart" in text
    assert "All other compared methods that deliver one network are significantly less" in text


def test_ensembles_are_not_called_less_accurate_than_a_single_network(tmp_path: Path) -> None:
    write(tmp_path, {"wash": [80.0, 80.2, 80.4]})
    for method in ("naive-ensemble", "papa"):
        for seed in range(3):
            summary = {"method_acc": 85.0 + seed / 10, "method_networks": 3}
            write_cell(tmp_path, method, seed, summary=summary)
    text = answer_of(tmp_path)
    assert text.startswith("The best single network is wash's") and "less" not in text


def test_means_over_other_seeds_than_the_difference_are_said(tmp_path: Path) -> None:
    write(tmp_path, {"wash": [80.0, 80.1, 80.2, 90.0, 90.1], "papa": [81.0, 81.2, 81.1]})
    assert "on the 3 seeds of both: difference −1.0 points" in answer_of(tmp_path)
