"""``import wash_bench as wb``: light, and each function what the command of its name does."""

from __future__ import annotations

import inspect
from pathlib import Path

import pandas as pd
import pytest
import timm
import torch

import wash_bench as wb
from tests.cli.test_light_imports import loaded
from tests.support.command import command
from tests.support.runs import records_of
from wash_bench.errors import UsageError

FUNCTIONS = ("run", "plan", "load", "table", "figures", "merge", "barrier", "Coupling")
SHORT = {
    "train_limit": 200, "val_share": 0.1, "epochs": 1, "batch_size": 32, "barrier_points": 3,
    "barrier_images": 40, "bn_images": 64, "barrier_bn_images": 64, "population": 2,
    "threads": 1, "device": "cpu", "seeds": 0,
}  # fmt: skip
FLAGS = [f"--{key.replace('_', '-')}={value}" for key, value in SHORT.items()]


def test_the_package_alone_imports_nothing_heavy() -> None:
    assert loaded("import wash_bench as wb; assert wb.__version__")[0] == []
    told = loaded("import wash_bench as wb; print(wb.run.__name__, wb.merge.__name__, dir(wb))")
    assert told[0] == []
    assert told[1].endswith(str(sorted([*FUNCTIONS, "__version__"])))
    assert loaded("import sys, wash_bench; print('pydantic' in sys.modules)")[1] == "False"


def test_each_function_is_typed_and_the_stub_names_all_and_no_other() -> None:
    for name in FUNCTIONS:
        function = getattr(wb, name)
        hints = inspect.signature(function)
        returns = inspect.isclass(function) or hints.return_annotation is not hints.empty
        assert function.__doc__ and returns
        assert all(p.annotation is not p.empty for p in hints.parameters.values())
    stub = Path(wb.__file__).with_suffix(".pyi").read_text()
    named = {line.split()[-1] for line in stub.splitlines() if line.startswith("from")}
    assert named == set(FUNCTIONS) == set(wb._MODULES)
    with pytest.raises(AttributeError, match="no attribute 'rum'"):
        _ = wb.rum  # pyright: ignore[reportAttributeAccessIssue]


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    out = tmp_path_factory.mktemp("api")
    return wb.run(
        "digits", methods=["wash", "greedy-soup"], set={"wash": {"p": 0.1}}, out=out,
        **SHORT,
    )  # fmt: skip


@pytest.mark.slow
def test_a_run_is_that_of_the_command_line(ran, tmp_path, capsys) -> None:
    assert len(ran.outcome.finished) == 2
    given = ["--methods", "wash,greedy-soup", "--set", "wash.p=0.1", "--jobs", "1"]
    code, _, err = command(
        capsys, "run", "digits", *given, *FLAGS, "--no-report", "--out", str(tmp_path)
    )
    assert code == 0, err
    mine, theirs = records_of(ran.folder), records_of(tmp_path)
    assert mine.keys() == theirs.keys()
    for key, record in mine.items():
        assert record["cell_id"] == theirs[key]["cell_id"]
        assert record["summary"]["average_nll"] == theirs[key]["summary"]["average_nll"]
    assert not (ran.folder / "report").exists()
    again = wb.run(
        "digits", methods="wash,greedy-soup", set=["wash.p=0.1"], out=ran.folder, **SHORT
    )
    assert len(again.outcome.cached) == 2


@pytest.mark.slow
def test_records_and_the_table_are_frames(ran, tmp_path) -> None:
    records = wb.load(ran.folder)
    assert list(records.summary["method"]) == ["wash", "greedy-soup"]
    assert len(records.barrier) and len(records.events)
    table = wb.table(ran.folder, digits=3)
    assert isinstance(table, pd.DataFrame) and list(table["method"]) == ["wash", "greedy-soup"]
    value = records_of(ran.folder)["wash", 0]["summary"]["average_acc"]
    assert table["averaged"][0].startswith(f"{value:.3f}")
    assert ran.table(3).equals(table)
    wb.run("digits", methods="naive-ensemble", out=tmp_path, **(SHORT | {"epochs": 2}))
    both = wb.table(ran.folder, tmp_path)
    assert len(both) == 3 and both["experiment"].nunique() == 2


def test_a_plan_is_that_of_the_command_line(capsys) -> None:
    options = SHORT | {"methods": "wash,papa", "set": ["wash.p=0.1,0.2"]}
    planned = wb.plan("digits", **options)
    frame = planned.frame()
    assert list(frame["name"]) == ["wash (p=0.1)", "wash (p=0.2)", "papa"]
    assert planned.seconds > 0 and (frame["steps"] == -(-200 // 32)).all()
    given = ("--methods", "wash,papa", "--set", "wash.p=0.1,0.2")
    code, told, _ = command(capsys, "plan", "digits", *given, *FLAGS)
    assert code == 0
    assert f"{frame['sent_values'][2]:,.0f}" in told


@pytest.fixture(scope="module")
def files(ran) -> list[Path]:
    training = records_of(ran.folder)["greedy-soup", 0]["training_id"]
    found = (ran.folder / "trainings" / training).glob("state-*/member-*.safetensors")
    return sorted(found)


@pytest.mark.slow
def test_merging_the_members_of_a_run_gives_its_numbers(ran, files, tmp_path) -> None:
    evaluation = {key: value for key, value in SHORT.items() if "images" in key or "points" in key}
    done = wb.merge(files, out=tmp_path / "m", threads=1, device="cpu", **evaluation)
    summary = records_of(ran.folder)["greedy-soup", 0]["summary"]
    frame = done.frame()
    as_is = frame[frame["batchnorm"] == "as it is"].set_index("network")
    assert as_is.loc["uniform-soup", "nll"] == summary["average_nll"]
    assert as_is.loc["uniform-soup", "val_acc"] == summary["average_val_acc"]
    assert as_is.loc[["member-0.safetensors", "member-1.safetensors"], "acc"].mean() == (
        pytest.approx(summary["member_acc_mean"])
    )
    assert done.barriers().iloc[0, 1] == pytest.approx(summary["barrier_loss_max"])
    best = frame[frame["kind"] == done.best.kind]
    assert done.best.val_acc == best["val_acc"].max()
    model = timm.create_model(f"local-dir:{done.folder / 'best'}", pretrained=True)
    assert sum(p.numel() for p in model.parameters()) == summary["parameters"]


@pytest.mark.slow
def test_the_barrier_of_two_networks_is_that_of_the_record(ran, files) -> None:
    evaluation = {key: value for key, value in SHORT.items() if "images" in key or "points" in key}
    found = wb.barrier(*files, threads=1, device="cpu", **evaluation)
    summary = records_of(ran.folder)["greedy-soup", 0]["summary"]
    assert found.loss == pytest.approx(summary["barrier_loss_max"])
    assert found.loss_bn == pytest.approx(summary["barrier_bn_loss_max"])
    plain = found.points[found.points["bn"] == "averaged"]
    assert list(plain["alpha"]) == [0, 0.5, 1]
    line = (plain["loss"].iloc[0] + plain["loss"].iloc[2]) / 2
    assert found.loss == pytest.approx(max(plain["loss"].iloc[1] - line, 0))


def test_mistakes_are_exceptions_with_one_line(tmp_path) -> None:
    for call in (
        lambda: wb.run(epoch=3),
        lambda: wb.plan("digitz"),
        lambda: wb.run("digits", lr=-1),
        lambda: wb.load(tmp_path / "gone"),
        lambda: wb.merge([tmp_path / "gone.pth", tmp_path / "b.pth"], "digits"),
        lambda: wb.merge([tmp_path / "gone.pth"], model="test_resnet", out=tmp_path / "x"),
    ):
        with pytest.raises(UsageError) as caught:
            call()
        assert "\n" not in str(caught.value)
    with pytest.raises(UsageError, match=r"epoch: no such setting; .*'epochs'"):
        wb.run(epoch=3)


@pytest.mark.parametrize("given", [torch.nn.Linear(900, 900), [object()], {"a": {"b": print}}])
def test_an_object_is_no_setting_and_is_not_printed(given):
    with pytest.raises(UsageError, match=r"^model: takes a name, a number or a list") as raised:
        wb.run(model=given)
    assert len(str(raised.value)) < 120
