"""Several values of an option: which variants they make, and what runs, plans and tables say."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wash_bench.cli.main import run_command
from wash_bench.errors import UsageError
from wash_bench.plugins.registry import find_method
from wash_bench.runner.experiment import side_by_side, tasks_of
from wash_bench.study.file import Row
from wash_bench.study.resolve import resolve
from wash_bench.study.sweep import differing, variants


@given(
    st.lists(st.integers(1, 9), min_size=1, max_size=4, unique=True),
    st.lists(st.floats(0, 1), min_size=1, max_size=3, unique=True),
)
def test_every_combination_is_a_variant_once(periods: list[int], probabilities: list[float]):
    found = variants(find_method("wash"), {"every": periods, "p": probabilities})
    expected = [{"every": e, "p": p} for e, p in itertools.product(periods, probabilities)]
    assert found == expected


def test_values_come_as_text_and_as_toml_lists():
    wash = find_method("wash")
    assert variants(wash, {"p": "0.01,0.1"}) == variants(wash, {"p": [0.01, 0.1]})
    assert variants(wash, {"operator": "shuffle,average"})[1] == {"operator": "average"}


def test_an_option_that_is_a_list_is_swept_by_semicolons():
    dart = find_method("dart")
    assert variants(dart, {"branches": "plain,cutout"}) == [{"branches": "plain,cutout"}]
    assert len(variants(dart, {"branches": "plain;cutout,mixup"})) == 2
    assert len(variants(dart, {"branches": [["plain"], ["cutout", "mixup"]]})) == 2
    assert variants(dart, {"branches": ["plain", "cutout"]}) == [{"branches": ["plain", "cutout"]}]


def test_lists_are_told_as_they_are_typed():
    swept = resolve(
        "digits", None, {"methods": "dart", "set": ["dart.branches=plain;cutout,mixup"]}
    )
    names = [spec.label for spec in swept.specs]
    assert names == ["dart (branches=plain)", "dart (branches=cutout,mixup)"]


def test_a_wrapper_is_swept_too():
    found = variants(find_method("wash+ema"), {"p": 0.1, "ema": {"decay": [0.9, 0.99]}})
    assert found == [{"p": 0.1, "ema": {"decay": d}} for d in (0.9, 0.99)]
    assert differing(found) == ["ema.decay"]


@pytest.mark.parametrize(
    ("given_", "said"),
    [
        (["wash.p=0.1,"], "wash.p=0.1,: a value is missing"),
        (["wash.p=0.1,0.1"], "0.1 is given twice"),
        (["wash.p=0.1,2"], "wash.p=2"),
        (["wash.p=0.1", "wash.p=0.2"], "--set wash.p is given twice"),
        (["wash.q=1,2"], "no option 'q'"),
    ],
)
def test_what_is_wrong_is_told_in_a_line(given_: list[str], said: str):
    with pytest.raises(UsageError, match=said.replace(".", r"\.").replace("+", r"\+")):
        resolve("digits", None, {"methods": "wash,papa", "set": given_})


def test_a_sweep_is_the_same_cells_as_its_runs_one_by_one():
    options = {"methods": "wash,naive-ensemble", "seeds": "0,1"}
    swept = resolve("digits", None, options | {"set": ["wash.p=0.01,0.1"]})
    alone = set()
    for p in ("0.01", "0.1"):
        one = resolve("digits", None, options | {"set": [f"wash.p={p}"]})
        alone |= {cell.cell_id for cell in one.cells()}
    assert {cell.cell_id for cell in swept.cells()} == alone and len(alone) == 6
    labels = ["wash (p=0.01)", "wash (p=0.1)", "naive-ensemble"]
    assert [cell.label for cell in swept.cells()] == labels * 2


def test_a_merge_rule_that_is_swept_trains_once():
    swept = resolve("digits", None, {"methods": "trimmed-mean", "set": ["trimmed-mean.trim=0,0.3"]})
    tasks = tasks_of(swept.cells())
    assert [len(task.cells) for task in tasks] == [2] * len(swept.config.seeds)


def test_cells_of_one_training_and_another_evaluation_are_in_another_group():
    resolved = resolve("digits", None, {"methods": "wash", "seeds": "0"})
    (cell,) = resolved.cells()
    evaluation = cell.config.evaluation.model_copy(update={"ece_bins": 10})
    other = replace(cell, config=cell.config.model_copy(update={"evaluation": evaluation}))
    assert other.training_id == cell.training_id and other.cell_id != cell.cell_id
    groups = side_by_side([cell, other])
    assert [[task.cells for task in group] for group in groups] == [[(cell,)], [(other,)]]


def test_the_papers_coupling_is_scaled_for_each_variant():
    options = {"methods": "wash", "coupling_budget": "paper", "set": ["wash.p=0.0001,0.0002"]}
    specs = resolve("digits", None, options).specs
    first, second = (spec.options["p"] for spec in specs)
    assert second == pytest.approx(2 * first) and first > 0.0001
    assert [spec.coupling["paper"]["p"] for spec in specs] == [0.0001, 0.0002]


def test_comm_and_plan_have_a_row_each(capsys: pytest.CaptureFixture[str]):
    command = [
        "comm",
        "--model",
        "test_resnet",
        "--methods",
        "wash,papa",
        "--set",
        "wash.p=0.1,0.2",
    ]
    assert run_command([*command, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [row["variant"] for row in found] == ["wash (p=0.1)", "wash (p=0.2)", "papa"]
    assert [row["method"] for row in found] == ["wash", "wash", "papa"]
    assert found[1]["sent_values_total"] == pytest.approx(2 * found[0]["sent_values_total"])


TUG = """
from wash_bench.core.method import Method, MethodOptions, option


class Options(MethodOptions):
    pull: float = option(0.1, "share of the way to the mean", ge=0, le=1)
    every: int = option(1, "period", unit="steps", ge=1)


class Tug(Method):
    name, paper = "tug", "an example"
    rule = "theta_n <- theta_n + pull (mean - theta_n), every H steps"
    sends = "all weights every H steps"
    Options = Options

    def after_step(self, population, exchange, clock):
        if (clock.step + 1) % self.options.every == 0:
            mean = exchange.mean(population.weights)
            population.weights.lerp_(mean.expand_as(population.weights), self.options.pull)
"""


def test_a_plan_of_a_method_of_ones_own_lists_four_variants(tmp_path, capsys):
    (tmp_path / "tug.py").write_text(TUG)
    line = ["plan", "digits", "--methods", f"{tmp_path / 'tug.py'}:Tug"]
    line += ["--set", "tug.pull=0.1,0.5", "--set", "tug.every=2,10", "--seeds", "0", "--json"]
    assert run_command([*line, "--device", "cpu", "--threads", "1"]) == 0
    cells = json.loads(capsys.readouterr().out)["cells"]
    assert sorted(cell["variant"] for cell in cells) == [
        f"tug (pull={pull}, every={every})" for pull in (0.1, 0.5) for every in (10, 2)
    ]


def test_a_table_declares_a_sweep_in_one_row():
    row = Row(label="wash", method="wash", set={"p": [0.01, 0.1], "every": 2})
    assert [each.label for each in row.variants()] == ["wash p=0.01", "wash p=0.1"]
    assert [each.set["p"] for each in row.variants()] == [0.01, 0.1]
    plain = Row(label="x", method="wash", set={"p": 0.1})
    assert plain.variants() == [plain]


@pytest.mark.parametrize(
    "given",
    [
        ["wash+ema.decay=0.5"],
        ["wash+ema.ema.decay=0.5"],
        ["ema.decay=0.5"],
        {"wash+ema": {"ema": {"decay": 0.5}}},
    ],
)
def test_a_wrappers_option_has_several_names(given):
    config = resolve("digits", None, {"methods": "wash+ema", "set": given}).config
    assert config.set["wash+ema"]["ema"] == {"decay": 0.5}


@pytest.mark.parametrize(
    "given",
    [
        ["wash+ema.decay=0.5", "wash+ema.ema.decay=0.9"],
        {"wash+ema": {"ema": {"decay": 0.5}, "decay": 0.9}},
    ],
)
def test_two_names_of_one_option_are_not_both_given(given):
    with pytest.raises(UsageError, match=r"wash\+ema.decay and wash\+ema.ema.decay are one option"):
        resolve("digits", None, {"methods": "wash+ema", "set": given})
