"""A table of the user's own, with the controls of a comparison as rows of their own settings."""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd
import pytest

from tests.support.paper_files import _SCALE
from wash_bench.cli.main import run_command
from wash_bench.study.file import read_study, study_of

PAGE = Path(__file__).parents[2] / "docs" / "paper-tables.md"
HEAD = """
title = "Controls"
about = "A tuned population and its controls."
metrics = ["average_acc", "barrier_loss_max", "sent_bytes_total"]

[[row]]
label = "wash, tuned"
method = "wash"

[[row]]
label = "wash, half as long"
method = "wash"
settings = { epochs = 1 }
"""
TUNED = """
epochs = 2

[scale.small.settings.set.wash]
p = 0.2
every = 2
"""


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """The rows of the page's example, below a tuned one."""
    (example,) = re.findall(
        r"```toml\n(\[\[row\]\]\nlabel = \"wash, the.*?)```", PAGE.read_text(), re.S
    )
    scale = _SCALE.replace("NAME", "small").replace("epochs = 1\n", "")
    path = tmp_path / "controls.toml"
    path.write_text(f"{HEAD}\n{example}\n{scale}{TUNED}")
    return path


def test_each_row_has_the_settings_that_it_names(table: Path) -> None:
    lines = {line.row.label: line for line in study_of(read_study(table), "small").lines}
    configs = {label: line.resolved.config for label, line in lines.items()}
    tuned = configs["wash, tuned"]
    assert tuned.set["wash"] == {"p": 0.2, "every": 2}
    papers = configs["wash, the papers' coupling"]
    assert papers.coupling_budget == "paper"
    assert papers.coupling["wash"]["paper"] == {"p": 0.001}  # and no tuned value, scaled
    assert "every" not in papers.set["wash"]
    assert papers.training == tuned.training
    for label, changed in {
        "wash, half as long": {"epochs": 1},
        "wash, own starts": {"init": "independent"},
        "wash, on branches": {"branches": ("plain", "auto-augment", "cutout")},
    }.items():
        assert configs[label].training == tuned.training.model_copy(update=changed), label
        assert configs[label].set == tuned.set, label
    assert configs["one network, single"].set == {"single": {"budget": "epochs"}}


@pytest.mark.slow
def test_it_is_planned_and_run_as_one_table(table: Path, tmp_path: Path, capfd) -> None:
    command = ["paper-table", str(table), "--out", str(tmp_path / "runs"), "--threads", "1"]
    assert run_command([*command, "--plan"]) == 0
    planned = capfd.readouterr().out
    assert "one network, single+ema" in planned
    assert run_command(command) == 0
    rows = pd.read_csv(tmp_path / "runs/tables/controls-small.csv")
    assert set(rows["row"]) == {
        "wash, tuned", "wash, half as long", "wash, the papers' coupling", "wash, own starts",
        "wash, on branches", "one network, single", "one network, single+ema",
    }  # fmt: skip
    ours = rows.pivot_table(index="row", columns="metric", values="ours", dropna=False)
    assert ours["average_acc"].notna().all()
    single = ours.index.str.startswith("one network")
    assert ours["barrier_loss_max"][single].isna().all()
    assert ours["barrier_loss_max"][~single].notna().all()
    assert (ours["sent_bytes_total"][single] == 0).all()
