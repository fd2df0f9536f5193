"""The papers' tables as data: all resolve, can be planned without their data, and one runs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from tests.support.paper_files import TINY
from wash_bench.cli.main import run_command
from wash_bench.errors import UsageError
from wash_bench.plugins.registry import make_method
from wash_bench.report.figures import budget_plot
from wash_bench.report.figures.rows_plot import draw
from wash_bench.report.published import read_published
from wash_bench.report.tables.study import StudyTable
from wash_bench.runner.plan import plan_cells
from wash_bench.study.file import NamedFile, find_table, read_study, study_of, table_names


@pytest.mark.parametrize(
    ("name", "scale"),
    [(name, scale) for name in table_names() for scale in find_table(name).file.scale],
)
def test_every_table_resolves_and_its_rows_differ(name: str, scale: str) -> None:
    named = find_table(name)
    of_scale = named.file.scale[scale]
    lines = study_of(named, scale).lines
    rows = len(named.file.rows(scale))
    assert len(lines) == rows * len(of_scale.population) * len(of_scale.augment)
    found = set()
    for line in lines:
        config, (entry,) = line.resolved.config, line.resolved.entries
        assert (config.training.population, config.training.augment) == (
            line.population,
            line.augment,
        )
        assert config.seeds == of_scale.seeds and len(config.seeds) >= (3, 1)[scale == "paper"]
        settings = make_method(entry, config.set.get(entry.name, {})).settings()
        found.add((config.training.model_dump_json(), entry.name, str(settings)))
    assert len(found) == len(lines)  # no row stands twice under two labels


def test_the_published_settings_are_those_of_the_presets() -> None:
    (line, *_) = study_of(find_table("cifar100-vgg16"), "paper", population=[5]).lines
    training = line.resolved.config.training
    assert (training.dataset, training.model, training.epochs) == ("cifar100", "vgg16_bn", 300)
    assert training.population == 5
    budgets = {
        line.resolved.config.training.epochs
        for line in study_of(find_table("coupling-budget"), "small").lines
    }
    assert max(budgets) == 8 * min(budgets) and len(budgets) == 3


def test_a_table_is_planned_without_its_data(monkeypatch: pytest.MonkeyPatch) -> None:
    """Noise of the images' shape is timed; the counts are those of the published setting."""
    monkeypatch.setattr("wash_bench.runner.plan.TIMED_STEPS", 1)
    named = find_table("cifar10-resnet18")
    small = {"model": "test_resnet", "stem": "keep", "amp": "off", "epochs": 3, "device": "cpu"}
    study = study_of(named, "paper", small, population=[3], augment=["homogeneous"])
    plan = plan_cells(study.cells)
    assert list(dict.fromkeys(planned.variant for planned in plan.cells)) == [
        row.label for row in named.file.rows("paper")
    ]
    assert {planned.steps for planned in plan.cells} == {3 * 766}
    time = {planned.variant: planned.seconds for planned in plan.cells}
    assert time["naive-ensemble"] > 0 and time["greedy-soup"] == 0  # one training for both
    assert any("noise of their shape" in note for note in plan.notes)


@pytest.mark.slow
def test_a_table_runs_and_stands_beside_the_published_numbers(
    tiny_table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = tiny_table.with_name("own.csv")
    command = ["paper-table", str(tiny_table), "--out", str(tmp_path), "--published", str(own),
               "--device", "cpu"]  # fmt: skip
    assert run_command([*command, "--scale", "paper"]) == 0
    printed = capsys.readouterr().out
    frame = pd.read_csv(tmp_path / "tables" / "tiny-paper.csv")
    text = (tmp_path / "tables" / "tiny-paper.md").read_text()
    assert text.strip() in printed and "## Tiny: tiny at scale paper" in text
    first = frame[frame["metric"] == "average_acc"].set_index("row")
    assert first.loc["wash p=0.1", "difference"] == pytest.approx(
        first.loc["wash p=0.1", "ours"] - 40.5
    )
    assert first["difference"].notna().sum() == 1  # nothing else is published
    assert first.loc["papa", "published_source"] == "not available" and "not available" in text
    soups = frame[frame["metric"] == "greedy_acc"].set_index("row")["ours"]
    (soup,) = (line for line in text.splitlines() if line.startswith("| greedy-soup"))
    assert any(f"{soups['greedy-soup']:.2f} ({size})" in soup for size in (1, 2))  # of its members
    headings = next(line for line in text.splitlines() if line.startswith("| row"))
    assert headings.count("published") == 1  # a column in which there is nothing is left out
    for form in ("png", "svg"):
        assert (tmp_path / "tables" / f"tiny-paper.{form}").stat().st_size > 1000
    assert "30.5: a made-up page without N" in text and "| 30.5" not in text
    assert "One seed (0)" in text
    sent = frame[frame["metric"] == "sent_vs_papa"].set_index("row")["ours"]
    assert sent["papa"] == 1 and sent["naive-ensemble"] == 0
    assert sent["wash p=0.2"] > 1.5 * sent["wash p=0.1"]

    # The same cells at another scale: found done, and no difference is formed.
    assert run_command([*command, "--scale", "small"]) == 0
    assert "not trained again" in capsys.readouterr().out
    text = (tmp_path / "tables" / "tiny-small.md").read_text()
    assert "tiny at scale small" in text and "difference |" not in text and "40.5" in text
    frame = pd.read_csv(tmp_path / "tables" / "tiny-small.csv")
    assert frame["difference"].isna().all() and set(frame["scale"]) == {"small"}


def test_equal_budgets_alone_are_compared(tiny_table: Path, tmp_path: Path) -> None:
    """Letters inside a group, and differences to its best: a long training is no better rule."""
    named = read_study(tiny_table)
    study = study_of(named, "small", {"seeds": [0, 1, 2]})
    lines = list(study.lines[:4])
    training = lines[3].resolved.config.training.model_copy(update={"epochs": 2})
    config = lines[3].resolved.config.model_copy(update={"training": training})
    lines[3] = replace(lines[3], resolved=lines[3].resolved.model_copy(update={"config": config}))
    table = StudyTable.of(replace(study, lines=tuple(lines)), tmp_path)
    values = ({0: 80.0, 1: 81.0, 2: 82.0}, {0: 79.0, 1: 82.0, 2: 81.0}, {0: 70.0, 1: 71.0, 2: 72.0},
              {0: 90.0, 1: 91.0, 2: 92.0})  # fmt: skip
    for place, by_seed in enumerate(values):
        table.values[place, "method_acc"] = by_seed
    assert table.letters() == {(i, "method_acc"): mark for i, mark in enumerate("aab")}
    rows = table.frame().query("metric == 'method_acc'")
    assert rows["below_best"].tolist() == pytest.approx([0, 1 / 3, 10, 0])
    assert rows["letters"].tolist() == ["a", "a", "b", ""]
    text = table.table().markdown()
    assert "| row | N | augmentation | delivered |" in text
    assert "| 81.00 ± 2.48 a |" in text and "| 80.67 ± 3.79 a |" in text
    assert "| 91.00 ± 2.48 |" in text and "Letters compare rows of equal" in text


def test_a_failed_average_does_not_squeeze_the_figure(tiny_table: Path, tmp_path: Path) -> None:
    named = read_study(tiny_table)
    study = study_of(named, "small")
    table = StudyTable.of(replace(study, lines=study.lines[:3]), tmp_path)
    assert draw(table) is None
    for place, value in enumerate((84.0, 85.5, 16.5)):
        table.values[place, "average_acc"] = {0: value}
    figure = draw(table)
    assert figure.legends[0].get_title().get_text() == "one seed\n◂ a value below the axis"
    (axes,) = figure.axes
    low, high = axes.get_xlim()
    assert 70 < low < 84 and 85.5 < high < 90
    assert [text.get_text() for text in axes.texts] == ["◂ 16"]
    assert [label.get_text() for label in axes.get_yticklabels()] == [
        "papa", "wash p=0.1", "wash p=0.2"]  # fmt: skip
    table.values[2, "average_acc"] = {0: 85.0}
    assert draw(table).legends[0].get_title().get_text() == "one seed"


def test_several_budgets_are_drawn_as_curves(tmp_path: Path) -> None:
    """The gap is to the ensemble of the same budget, paired by seed."""
    named = find_table("coupling-budget")
    table = StudyTable.of(study_of(named, "small"), tmp_path)
    assert budget_plot.draw(table) is None
    for place, line in enumerate(table.lines):
        epochs = line.resolved.config.training.epochs
        base = {0: 80.0 + epochs / 4, 1: 81.0 + epochs / 4}
        for metric, more in (("average_acc", 0.5), ("ensemble_acc", 1.5)):
            values = {seed: value + more for seed, value in base.items()}
            table.values[place, metric] = values
    left, right = budget_plot.draw(table).axes
    curves = [bar.lines[0].get_ydata() for bar in right.containers]
    assert len(curves) == 4 and all(list(curve) == [-1.0, -1.0, -1.0] for curve in curves)
    names = left.get_legend_handles_labels()[1]
    assert names == ["papa", "dart", "wash", "wash-opt", "ensemble of independent members"]


def test_budgets_of_several_networks_are_no_curve(tmp_path: Path) -> None:
    named = find_table("architectures")
    table = StudyTable.of(study_of(named, "small"), tmp_path)
    for place in range(len(table.lines)):
        table.values[place, "average_acc"] = {0: 80.0}
    assert budget_plot.draw(table) is None and draw(table) is not None


def test_a_table_without_cells_says_so(tiny_table: Path, tmp_path: Path) -> None:
    named = read_study(tiny_table)
    table = StudyTable.of(study_of(named, "small"), tmp_path, read_published())
    assert "No cell finished." in table.table().markdown()
    assert table.frame()["ours"].isna().all()


def test_a_row_of_several_methods_is_one_of_each(tmp_path: Path) -> None:
    path = tmp_path / "tiny.toml"
    several = """label = "{method}, long"
method = ["papa", "wash"]
settings = { epochs = 9 }
"""
    path.write_text(TINY.replace('label = "papa"\nmethod = "papa"\n', several, 1))
    papa, wash = read_study(path).file.rows("small")[:2]
    assert (papa.label, papa.method, papa.settings) == ("papa, long", "papa", {"epochs": 9})
    assert (wash.label, wash.method, wash.settings) == ("wash, long", "wash", {"epochs": 9})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (('method = "papa"', 'method = ["papa", "wash"]'), "needs rows with different labels"),
        (("average_acc", "averaged_acc"), "no metric 'averaged_acc'; did you mean 'average_acc'"),
        (('label = "papa"', 'label = "wash p=0.1"'), "needs rows with different labels"),
        (("about", "abuot"), "abuot: Extra inputs are not permitted"),
        (("p = [0.1, 0.2]", "q = [0.1, 0.2]"), "row 'wash': method 'wash' has no opti"),
    ],
)
def test_a_wrong_table_is_told(tmp_path: Path, change: tuple[str, str], message: str) -> None:
    path = tmp_path / "tiny.toml"
    path.write_text(TINY.replace(*change, 1))
    with pytest.raises(UsageError, match=message):
        study_of(read_study(path), "small")


def test_names_that_are_not_there_are_told() -> None:
    with pytest.raises(UsageError, match="did you mean 'cifar10-resnet18'"):
        find_table("cifar10-resnet81")
    only = find_table("ablation-p")
    table = only.file.model_copy(update={"scale": {"paper": only.file.scale["paper"]}})
    with pytest.raises(UsageError, match="has no scale 'small': it has paper"):
        study_of(NamedFile("x", table), "small")
