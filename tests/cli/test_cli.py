"""The command line: help, start-up, errors in one line, lists."""

from __future__ import annotations

import json
import re
import subprocess
import sys

import pytest
import typer
from typer.testing import CliRunner

from tests.support.command import command
from wash_bench.cli.app import app
from wash_bench.study.options import OPTIONS

COMMANDS = ("run", "plan", "comm", "report", "methods", "presets", "datasets", "models")
HEAVY = ("torch", "torchvision", "timm", "pandas", "numpy", "pydantic", "sklearn", "matplotlib")


def imported_by(code: str) -> list[str]:
    """Which heavy packages a fresh interpreter has loaded after running ``code``."""
    script = f"{code}\nimport sys\nprint(*[name for name in {HEAVY!r} if name in sys.modules])"
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return result.stdout.splitlines()[-1].split()


def test_help_imports_nothing_heavy():
    assert imported_by("import wash_bench.cli.app, wash_bench.__main__") == []
    help_text = "from wash_bench.cli.main import run_command\nassert run_command(['--help']) == 0"
    assert imported_by(help_text) == []


@pytest.mark.slow
def test_a_mistake_is_answered_before_torch_is_imported():
    for arguments in (["run", "--set", "wash.p=2"], ["run", "--model", "resnet_18"]):
        code = "from wash_bench.cli.main import run_command\n"
        assert "torch" not in imported_by(code + f"assert run_command({arguments!r}) == 2")


@pytest.mark.parametrize("name", COMMANDS)
def test_help_has_examples_and_every_option_a_help(name):
    result = CliRunner().invoke(app, [name, "--help"], env={"COLUMNS": "120", "NO_COLOR": "1"})
    assert result.exit_code == 0
    assert f"wash-bench {name}" in result.output.split("Examples")[1]


@pytest.mark.parametrize("name", ["run", "plan"])
def test_help_of_run_and_plan_has_every_option_with_its_default(name):
    result = CliRunner().invoke(app, [name, "--help"], env={"COLUMNS": "220", "NO_COLOR": "1"})
    text = " ".join(result.output.replace("│", " ").split())
    for item in OPTIONS.values():
        if item.key == "method":
            continue  # the old name of a part of --methods
        assert f" {item.flag} " in result.output
        assert item.help[:-2] in text
        assert item.default in ("no", "none") or f"default: {item.default})." in text


def test_no_help_has_what_rich_takes_for_markup():
    program = typer.main.get_command(app)
    context = typer.Context(program)
    for name, found in program.commands.items():  # pyright: ignore[reportAttributeAccessIssue]
        texts = [found.help, *(getattr(item, "help", "") for item in found.get_params(context))]
        for text in filter(None, texts):
            assert not re.search(r"\[[A-Za-z#/@]", text), f"{name}: {text}"


def test_top_level(capsys):
    assert command(capsys, "--version") == (0, "wash-bench 0.1.0\n", "")
    code, out, _ = command(capsys)
    assert code == 0
    assert all(name in out for name in COMMANDS)


@pytest.mark.slow
def test_python_dash_m():
    result = subprocess.run(
        [sys.executable, "-m", "wash_bench", "run", "digts"], capture_output=True, text=True
    )
    assert result.returncode == 2
    assert result.stderr == "wash-bench: error: unknown preset 'digts': did you mean 'digits'?\n"
    assert result.stdout == ""


@pytest.mark.fault(
    "Options and presets",
    "options, commands, methods and paths that do not exist or cannot be",
    "one line with the fix or the nearest name, exit 2",
)
@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["rnu"], "'run'"),
        (["run", "--epoch", "3"], "--epochs"),
        (["run", "digits", "extra"], "extra"),
        (["run", "--epochs"], "--epochs"),
        (["run", "--methods", "wahs"], "'wash'"),
        (["run", "--population", "1"], "at least 2"),
        (["run", "--methods", "absent.py:X"], "absent.py"),
        (["run", "--methods", "broken.py:X"], "broken.py, line 1"),
        (["run", "--methods", "empty.py:X"], "no class 'X'"),
        (["run", "--out", "empty.py"], "not a folder"),
        (["run", "--out", "empty.py/deep"], "not a folder"),
        (["plan", "--epochs", "0"], "at least 1"),
        (["run", "--shard", "4/3"], "--shard 4/3"),
        (["run", "--shard", "half"], "--shard half"),
        (["merge-records", "a", "b", "--out", "c"], "wash-bench report A B"),
        (["run", "--worker", "--shard", "1/2"], "--shard and --worker"),
        (["run", "--worker", "--jobs", "2"], "--jobs"),
        (["comm", "--steps", "0"], "--steps"),
        (["comm", "--num-classes", "x"], "--num-classes"),
        (["comm", "--population", "1"], "at least 2"),
        (["comm", "--stem", "cifr"], "'cifar'"),
        (["comm", "--optimizer", "sdg"], "'sgd'"),
        (["report"], "RUNS"),
        (["report", "nowhere"], "nowhere"),
        (["report", "."], "."),
        (["methods", "wahs"], "'wash'"),
        (["presets", "digit"], "'digits'"),
        (["datasets", "svhn"], "svhn"),
        (["models", "resnet_18"], "resnet18"),
    ],
)
def test_mistakes_are_one_line_with_exit_code_2(arguments, part, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "broken.py").write_text("def (")
    (tmp_path / "empty.py").write_text("x = 1")
    before = sorted(tmp_path.iterdir())
    code, out, err = command(capsys, *arguments)
    assert code == (1 if arguments == ["report", "."] else 2)  # a folder without records: failure
    assert out == ""
    assert err.count("\n") == 1 and err.startswith("wash-bench: error: ")
    assert part in err and "Traceback" not in err
    assert sorted(tmp_path.iterdir()) == before


def test_debug_shows_the_traceback(capsys):
    code, _, err = command(capsys, "run", "digts", "--debug")
    assert code == 2
    assert "Traceback" in err and err.endswith("did you mean 'digits'?\n")


def test_lists(capsys):
    for name, parts in {
        "methods": ["wash-opt", "naive-ensemble"],
        "presets": ["digits", "imagenet-resnet50"],
        "datasets": ["fashion-mini", "folder:PATH", "60,000 + 10,000"],
    }.items():
        code, out, _ = command(capsys, name)
        assert code == 0
        assert all(part in out for part in parts)
    code, out, _ = command(capsys, "methods", "wash")
    assert "wash.p " in out and "unverified" in out
    assert "0.001  # unverified" in command(capsys, "presets", "cifar10-resnet18")[1]
    wild = command(capsys, "models", "resnet1?")[1].split()
    assert "resnet18" in wild
    assert all(name.startswith("resnet1") and len(name) == 8 for name in wild)
    part = command(capsys, "models", "ResNet18")[1].split()
    assert "resnet18" in part and "seresnet18" in part


@pytest.mark.parametrize(
    ("arguments", "key"),
    [
        (["methods"], "name"),
        (["methods", "--kind", "exchange"], "name"),
        (["presets"], "name"),
        (["datasets"], "name"),
        (["models", "test_"], None),
        (["paper-table"], "name"),
    ],
)
def test_lists_as_json_have_what_the_tables_have(arguments, key, capsys):
    code, told, err = command(capsys, *arguments, "--json")
    assert code == 0, err
    names = [entry[key] if key else entry for entry in json.loads(told)]
    code, shown, _ = command(capsys, *arguments)
    words = {line.split()[0] for line in shown.splitlines() if line.split()}
    assert code == 0 and names and set(names) <= words


def test_one_method_and_one_preset_as_json(capsys):
    _, told, _ = command(capsys, "methods", "wash", "--json")
    assert {"name", "rule", "paper", "sends", "options"} <= json.loads(told).keys()
    _, told, _ = command(capsys, "presets", "digits", "--json")
    assert json.loads(told)["dataset"] == "digits"


def test_a_plan_as_json_has_every_cell(capsys):
    arguments = ["plan", "digits", "--methods", "wash,papa", "--seeds", "0,1", "--train-limit=96"]
    code, told, err = command(capsys, *arguments, "--image-size=16", "--json")
    assert code == 0, err
    plan = json.loads(told)
    assert [(cell["method"], cell["seed"]) for cell in plan["cells"]] == [
        ("wash", 0), ("wash", 1), ("papa", 0), ("papa", 1)
    ]  # fmt: skip
    assert plan["seconds"] == pytest.approx(sum(cell["seconds"] for cell in plan["cells"]))
