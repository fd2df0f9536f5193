"""The published numbers: none without a source, none that could not be had, and a user's own."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from wash_bench.errors import UsageError
from wash_bench.report.published import COLUMNS, FILE, find, read_published
from wash_bench.study.file import find_table, table_names

LINES = read_published()


def write(path: Path, *rows: dict[str, object]) -> Path:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
    return path


CELL = {
    "paper": "WASH",
    "table": "cifar10-resnet18",
    "dataset": "cifar10",
    "model": "resnet18",
    "N": 3,
    "augment": "heterogeneous",
    "method": "wash",
    "metric": "average_acc",
}


def test_every_line_has_a_value_a_source_and_evidence() -> None:
    with FILE.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) > 100
    assert all(row["value"] and row["source"] and row["evidence"] for row in rows)


def test_no_cell_stands_twice() -> None:
    with FILE.open(newline="") as file:
        assert sum(1 for _ in csv.DictReader(file)) == len(LINES)


def test_the_tables_of_wash_and_papa_hold_only_what_others_or_abstracts_tell() -> None:
    """Their tables could not be had: every number is a reviewer's or an abstract's."""
    wash = {(x.table, x.method, x.metric): x for x in LINES if x.paper == "WASH"}
    assert {key: line.value for key, line in wash.items()} == {
        ("imagenet-resnet50", "papa", "ensemble_acc"): 75.80,
        ("imagenet-resnet50", "wash", "ensemble_acc"): 74.39,
        ("communication", "wash", "sent_vs_papa_min"): 0.25,
        ("communication", "wash", "sent_vs_papa_max"): 0.5,
    }
    assert all("third party" in line.evidence and line.N is None for line in wash.values())
    papa = [line for line in LINES if line.paper == "PAPA"]
    assert {line.metric for line in papa} == {"member_acc_gain_max"}
    assert [line.value for line in papa if line.method == "papa"] == [0.8, 1.9, 1.6]
    assert all(line.evidence.startswith("abstract") for line in papa)


def test_numbers_that_were_read_are_those_of_the_sources() -> None:
    def value(paper: str, dataset: str, model: str, method: str) -> tuple[float | None, ...]:
        (line,) = (
            x
            for x in LINES
            if (x.paper, x.dataset, x.model, x.method) == (paper, dataset, model, method)
        )
        return line.value, line.std

    assert value("DART", "cifar10", "", "dart") == (97.96, 0.06)
    assert value("DART", "cifar100", "", "dart") == (86.46, 0.12)
    assert value("DART", "pacs", "resnet50", "dart with swad") == (88.9, 0.1)
    assert value("Lookaround", "cifar100", "resnext50", "lookaround") == (81.14, None)
    assert value("SWA", "cifar10", "preresnet110", "swa (1.5 budgets)") == (95.82, 0.03)
    assert value("Model soups", "imagenet", "clip vit-b/32", "greedy-soup") == (81.03, None)


def test_every_declared_cell_can_be_filled(tmp_path: Path) -> None:
    """What a table declares is a cell of it: no list of empty ones is kept beside."""
    cells = [
        {**CELL, "paper": table.papers[0], "table": name, "N": n, "augment": augment,
         "method": row.label, "metric": metric, "value": 1.5, "source": "mine"}
        for name in table_names()
        if (table := find_table(name).file).papers
        for row in table.rows("paper")
        for n in table.scale["paper"].population
        for augment in table.scale["paper"].augment
        for metric in table.metrics
    ]  # fmt: skip
    assert len(cells) > 995
    lines = read_published(write(tmp_path / "own.csv", *cells))
    assert len(lines) == len(LINES) + len(cells)
    for cell in cells[::50]:
        names = ("paper", "table", "N", "augment", "method", "metric")
        found = find(lines, *(cell[name] for name in names))
        assert found is not None and found.source == "mine"


def test_a_user_fills_a_cell_and_replaces_a_number(tmp_path: Path) -> None:
    arguments = ("wash", "cifar10-resnet18", 3, "heterogeneous", "wash", "average_acc")
    assert find(LINES, *arguments) is None
    own = write(tmp_path / "own.csv", {**CELL, "value": "12.5", "std": 0.25, "source": "mine"})
    found = find(read_published(own), *arguments)
    assert found is not None and (found.value, found.std, found.source) == (12.5, 0.25, "mine")
    assert found.text == "12.5 ± 0.25"
    assert len(read_published(own)) == len(LINES) + 1
    again = write(tmp_path / "again.csv", {**CELL, "value": ""})
    assert read_published(again) == LINES  # an empty line takes nothing away


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"source": ""}, "line 2: a value needs its source"),
        ({"value": "high"}, "line 2: N, value and std must be numbers or empty"),
        ({"value": "nan"}, "line 2: N, value and std must be numbers or empty"),
    ],
)
def test_a_wrong_line_is_named(tmp_path: Path, change: dict[str, str], message: str) -> None:
    row = {**CELL, "value": "1", "source": "mine"} | change
    with pytest.raises(UsageError, match=message):
        read_published(write(tmp_path / "own.csv", row))


def test_a_file_without_the_columns_or_no_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "own.csv").write_text("paper,table\n")
    with pytest.raises(UsageError, match="lacks the columns N, augment"):
        read_published(tmp_path / "own.csv")
    with pytest.raises(UsageError, match="check the path"):
        read_published(tmp_path / "none.csv")
