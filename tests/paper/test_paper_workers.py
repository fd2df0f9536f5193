"""A paper's table made by several workers, and in shares."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import pandas as pd
import pytest

from wash_bench.cli.main import run_command
from wash_bench.record.locks import hold
from wash_bench.runner import experiment
from wash_bench.runner.experiment import side_by_side
from wash_bench.runner.queue import sharded
from wash_bench.study.file import read_study, study_of


def _groups(table: Path, **options):
    return side_by_side(study_of(read_study(table), "small", options).cells)


def test_one_training_is_not_started_twice_side_by_side(tiny_table: Path) -> None:
    groups = _groups(tiny_table)
    assert [len(task.cells) for task in groups[0]] == [1, 1, 1, 2]  # members without coupling
    for group in groups:
        assert len({task.training_id for task in group}) == len(group)


def test_shares_of_a_table_are_all_of_it_and_each_training_is_in_one(tiny_table: Path) -> None:
    groups = _groups(tiny_table, seeds=[0, 1])
    cells = [cell.cell_id for group in groups for task in group for cell in task.cells]
    shares = []
    for i in (1, 2, 3):
        tasks = [task for group in sharded(iter(groups), (i, 3)) for task in group]
        shares.append(({t.training_id for t in tasks}, [c.cell_id for t in tasks for c in t.cells]))
    assert sorted(cell for _, of_share in shares for cell in of_share) == sorted(cells)
    assert all(not a[0] & b[0] for a, b in combinations(shares, 2))
    assert all(trainings for trainings, _ in shares)


@pytest.mark.slow
def test_workers_and_shares_make_the_table(
    tiny_table: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    command = ["paper-table", str(tiny_table), "--out", str(tmp_path), "--device", "cpu"]
    assert run_command([*command, "--shard", "1/2"]) == 0
    assert "without --shard" in capsys.readouterr().out
    assert not (tmp_path / "tables").exists()
    done = {path.name: path.read_bytes() for path in tmp_path.glob("cells/*.json")}
    assert 0 < len(done) < 5
    (task,) = [
        task
        for group in _groups(tiny_table, device="cpu")
        for task in group
        if task.cells[0].method == "wash" and f"{task.cells[0].cell_id}.json" not in done
    ][:1]
    monkeypatch.setattr(experiment, "PATIENCE", 0.0)
    with hold(tmp_path, task.training_id):
        assert run_command(command) == 0
        assert "1 cell is being run by other processes" in capsys.readouterr().out
        assert not (tmp_path / "tables").exists()
    assert run_command([*command, "--worker"]) == 0
    assert "## Tiny: tiny at scale small" in capsys.readouterr().out
    frame = pd.read_csv(tmp_path / "tables" / "tiny-small.csv")
    assert frame.loc[frame["metric"] == "average_acc", "seeds"].eq(1).all()
    for name, content in done.items():
        assert (tmp_path / "cells" / name).read_bytes() == content


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--worker", "--shard", "1/2"], "give one of them"),
        (["--worker", "--jobs", "2"], "leave --jobs out"),
        (["--shard", "3/2"], "i from 1 to k"),
    ],
)
def test_ways_to_divide_that_do_not_go_together_are_told(
    tiny_table: Path, capsys: pytest.CaptureFixture[str], options: list[str], message: str
) -> None:
    assert run_command(["paper-table", str(tiny_table), *options]) == 2
    assert message in capsys.readouterr().err
