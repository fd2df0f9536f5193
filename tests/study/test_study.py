"""Study files: rows, what they inherit, what the command line changes, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wash_bench.cli.main import run_command
from wash_bench.errors import UsageError
from wash_bench.plugins.registry import method_names
from wash_bench.record.store import Store
from wash_bench.study.file import StudyFile, read_study, study_of
from wash_bench.study.resolve import resolve

ROOT = Path(__file__).parents[2]
STUDIES = sorted((ROOT / "results/studies").glob("*.toml"))
MINI = """
title = "Mini"
preset = "digits"
seeds = [0, 1]

[settings]
epochs = 1
train-limit = 64

[settings.set.wash]
p = 0.2

[[row]]
method = ["naive-ensemble", "wash"]
each = { population = [2, 3] }

[[row]]
label = "wash, small p"
method = "wash"
set = { p = 0.01 }

[[row]]
label = "wash, long, one seed"
method = "wash"
settings = { epochs = 2, seeds = [5] }
"""


@pytest.fixture
def mini(tmp_path: Path) -> Path:
    path = tmp_path / "mini.toml"
    path.write_text(MINI)
    return path


def test_a_row_is_the_cells_of_a_run_with_its_settings(mini: Path) -> None:
    lines = {line.row.label: line for line in study_of(read_study(mini)).lines}
    assert list(lines) == [
        "naive-ensemble, population = 2", "naive-ensemble, population = 3",
        "wash, population = 2", "wash, population = 3", "wash, small p", "wash, long, one seed",
    ]  # fmt: skip
    common = {"epochs": 1, "train_limit": 64, "seeds": [0, 1]}
    for label, options in {
        "naive-ensemble, population = 2": {"methods": "naive-ensemble", "population": 2},
        "wash, population = 3": {"methods": "wash", "set": ["wash.p=0.2"]},
        "wash, small p": {"methods": "wash", "set": ["wash.p=0.01"]},
        "wash, long, one seed": {
            "methods": "wash", "set": ["wash.p=0.2"], "epochs": 2, "seeds": [5],
        },
    }.items():  # fmt: skip
        alone = resolve("digits", None, common | options).cells()
        assert [c.cell_id for c in lines[label].cells] == [c.cell_id for c in alone], label
        assert {cell.label for cell in lines[label].cells} == {label}


def test_options_of_the_command_line_are_laid_over_every_row(mini: Path) -> None:
    options = {"seeds": "7", "methods": "wash", "set": ["wash.p=0.5"], "jobs": "1", "epochs": "4"}
    study = study_of(read_study(mini), "", options)
    assert [cell.seed for cell in study.cells] == [7] * 4
    assert {cell.spec.options["p"] for cell in study.cells} == {0.5}
    assert {cell.config.training.epochs for cell in study.cells} == {4}
    assert study.local.jobs == 1


@given(st.lists(st.integers(1, 9), min_size=1, max_size=3, unique=True),
       st.lists(st.sampled_from(["wash", "papa", "dart"]), min_size=1, unique=True))  # fmt: skip
def test_lists_are_short_for_every_combination(epochs: list[int], methods: list[str]) -> None:
    row = {"label": "{method} {epochs}", "method": methods, "each": {"epochs": epochs}}
    file = StudyFile(title="x", preset="digits", row=[row])  # pyright: ignore[reportArgumentType]
    expected = [(f"{m} {e}", m, {"epochs": e}) for m in methods for e in epochs]
    assert [(r.label, r.method, r.settings) for r in file.rows("")] == expected


def test_a_kind_stands_for_its_methods() -> None:
    file = StudyFile(title="x", preset="digits", row=["kind:merge", "wash+kind:trajectory"])  # pyright: ignore[reportArgumentType]
    merges, averages = method_names("merge"), method_names("trajectory")
    names = [row.method for row in file.rows("")]
    assert names == [*merges, *(f"wash+{name}" for name in averages)]


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        (('preset = "digits"', ""), {}, "preset is missing"),
        (("p = 0.01", "q = 0.01"), {}, "row 'wash, small p': method 'wash' has no option 'q'"),
        (("epochs = 2, ", "epocs = 2, "), {}, "row 'wash, long, one seed': unknown key"),
        (("epochs = 2, ", "threads = 2, "), {}, "threads is of the whole study"),
        (("wash, small p", "wash, population = 2"), {}, "needs rows with different labels"),
        (("each = { population = [2, 3] }", "each = { population = 2 }"), {}, "SETTING ="),
        (("", ""), {"methods": "papa"}, "--methods papa: study mini has naive-ensemble, wash"),
        (("", ""), {"set": ["papa.every=2"]}, "--set papa: the study has no row of it"),
    ],
)
def test_what_cannot_be_is_refused(
    mini: Path, change: tuple[str, str], options: dict, message: str
) -> None:
    mini.write_text(MINI.replace(*change))
    with pytest.raises(UsageError, match=message.replace("+", r"\+")):
        study_of(read_study(mini), "", options)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (["run", "digits", "--scale", "small"], "--scale is of a study file"),
        (["run", "{mini}", "--scale", "small"], "study mini has no scale 'small'"),
        (["plan", "gone.toml"], "cannot read study gone.toml"),
    ],
)
def test_the_command_line_refuses(mini: Path, line: list[str], message: str, capsys) -> None:
    assert run_command([part.replace("{mini}", str(mini)) for part in line]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


@pytest.mark.parametrize("path", STUDIES, ids=[path.stem for path in STUDIES])
def test_a_study_of_the_results_resolves_and_its_records_are_complete(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    study = study_of(read_study(path))
    if "checkpoint:" in study.local.config.training.init:
        return  # which has to be made first
    ids = [cell.cell_id for cell in study.cells]
    assert len(set(ids)) == len(ids)
    if study.local.out.parts[:2] == ("results", "records") and study.local.out.is_dir():
        store = Store(study.local.out)
        assert all(store.cell(each) is not None for each in ids)
