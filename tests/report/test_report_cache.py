"""Reports whose records have not changed are left as they are."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from tests.support.records import write_cell
from wash_bench.report import cache, style, write

FIGURES = ("bytes", "consensus")


@pytest.fixture
def saved(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the figures that are saved from now on; a line is written in place of each."""
    names: list[str] = []

    def save(figure: object, path: Path) -> None:
        names.append(path.name)
        path.write_text(f'<svg width="72pt">{path.name} {len(names)}</svg>')

    monkeypatch.setattr(style, "save", save)
    return names


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Two experiments, of one cell each."""
    for epochs in (2, 3):
        write_cell(tmp_path / "run", "papa", 0, epochs=epochs)
    return tmp_path / "run"


def report(run: Path, figures: tuple[str, ...] = FIGURES) -> tuple[list[Path], str]:
    stream = io.StringIO()
    console = Console(file=stream, width=120)
    return write.write_report([run], run / "report", console=console, figures=figures), (
        stream.getvalue()
    )


def files(run: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (run / "report").iterdir()}


def test_an_equal_report_is_left_as_it_is(run: Path, saved: list[str]) -> None:
    first, told = report(run)
    assert len(saved) == 2 * 2 * 2
    before = files(run)
    assert report(run) == (first, told) and told.count("| papa ") == 2
    assert files(run) == before and len(saved) == 2 * 2 * 2


def test_files_that_the_user_changed_or_put_there_are_kept(run: Path, saved: list[str]) -> None:
    report(run)
    mine, (figure, *_) = run / "report" / "bytes.png", (run / "report").glob("consensus-*.svg")
    for path in (mine, figure):
        path.write_text("mine")
    report(run, FIGURES[:1])
    assert mine.read_text() == figure.read_text() == "mine"
    assert len(list((run / "report").glob("consensus-*"))) == 1


@pytest.mark.parametrize("change", ["record", "events", "environment", "training", "figures"])
def test_what_changed_is_reported(run: Path, saved: list[str], change: str) -> None:
    first, _ = report(run)
    before = files(run)
    folder = next((run / "trainings").iterdir())
    if change == "record":
        path = next((run / "cells").iterdir())
        record = json.loads(path.read_text())
        record["summary"]["ensemble_acc"] = 12.3
        path.write_text(json.dumps(record))
    elif change == "events":
        with (folder / "events.jsonl").open("a") as file:
            file.write('{"step": 1, "epoch": 1, "member": null, "metric": "lr", "value": 1}\n')
    elif change == "environment":
        (folder / "environment.json").write_text('{"cpu": "Another"}')
    elif change == "training":
        (run / "trainings" / "unfinished").mkdir()
    again, told = report(run, FIGURES[:1] if change == "figures" else FIGURES)
    assert files(run)[".made.json"] != before[".made.json"]
    if change == "training":
        assert "training without a cell" in " ".join(told.split())
    if change == "figures":
        assert len(again) == len(first) - 2 * 2


@pytest.mark.parametrize("damage", ["removed", "edited", "torn"])
def test_a_file_that_is_not_as_it_was_written_is_made_again(
    run: Path, saved: list[str], damage: str
) -> None:
    report(run)
    whole = files(run)
    path = next((run / "report").glob("bytes-*.png"))
    if damage == "torn":
        (run / "report" / ".made.json").write_text('{"source": 1')
    else:
        path.unlink() if damage == "removed" else path.write_text("mine")
    report(run)
    assert set(files(run)) == set(whole)
    assert path.read_text() != "mine"
    assert len(saved) == 8 * 2


def test_another_code_makes_everything_again(
    run: Path, saved: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    report(run)
    monkeypatch.setattr(write, "code_digest", lambda: "newer")
    report(run)
    assert len(saved) == 2 * 2 * 2 * 2


def test_digests_of_files(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("x")
    assert cache.file_digest(tmp_path / "a") != cache.file_digest(tmp_path / "b") == "none"
    assert cache.file_digest(tmp_path) == "folder"
