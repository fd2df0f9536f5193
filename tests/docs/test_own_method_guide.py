"""The guide to a method of your own: its code and its commands run."""

from __future__ import annotations

import re
import shlex
import textwrap
from pathlib import Path

import pytest

from wash_bench.cli.main import run_command
from wash_bench.conformance.case import cases_of
from wash_bench.conformance.suite import run_check
from wash_bench.plugins.registry import load_method_file

ROOT = Path(__file__).parents[2]
GUIDE = (ROOT / "docs/own-method.md").read_text(encoding="utf-8")
SHORT = ["--epochs=1", "--train-limit=150", "--val-share=0.1", "--barrier-points=3"]
SHORT += ["--barrier-images=20", "--bn-images=32", "--barrier-bn-images=32", "--seeds=0"]
SHORT += ["--jobs=1", "--no-report", "--model=test_resnet"]


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", GUIDE, flags=re.DOTALL)


def files() -> dict[str, str]:
    """The code blocks that begin with a file's name."""
    named = [re.match(r"# (\w+\.py)\n(.*)", block, flags=re.DOTALL) for block in blocks("python")]
    return {found[1]: found[2] for found in named if found}


COMMANDS = [line for block in blocks("bash") for line in block.splitlines() if line]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("guide")
    for name, code in files().items():
        (folder / name).write_text(code)
    return folder


def test_a_method_takes_under_thirty_lines() -> None:
    (code,) = files().values()
    assert len(code.splitlines()) < 30


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
def test_its_commands_run(command: str, folder: Path, monkeypatch, capfd) -> None:
    monkeypatch.chdir(folder)
    program, *arguments = shlex.split(command)
    assert program == "wash-bench"
    arguments += {"run": SHORT, "check": ["--no-processes"]}.get(arguments[0], [])
    code = run_command(arguments)
    captured = capfd.readouterr()
    assert code == 0, captured


def test_its_other_code_runs(folder: Path, monkeypatch) -> None:
    monkeypatch.chdir(folder)
    charges, code = [block for block in blocks("python") if not block.startswith("#")]
    exec(compile(code, "own-method.md", "exec"), {})
    whole = Path("circle.py").read_text() + textwrap.indent(charges, "    ")
    imported = "from wash_bench.core.ledger import charge_fetch\n"
    Path("charged.py").write_text(imported + whole)
    finding = run_check("bytes", cases_of(load_method_file("charged.py:Circle"))[0])
    assert finding.passed and "charges tell what is sent" in finding.text


def test_its_links_point_at_files() -> None:
    for target in re.findall(r"\]\(([^)#][^)]*)\)", GUIDE):
        assert (ROOT / "docs" / target).exists(), target


def test_it_names_every_hook_and_exchange() -> None:
    from wash_bench.core.exchange import Exchange
    from wash_bench.core.method import TRAINING_HOOKS

    calls = [name for name in vars(Exchange) if not name.startswith("_") and name != "stream"]
    for name in (*TRAINING_HOOKS, *calls, "charges", "predictors", "exchange.stream"):
        assert f"`{name}(" in GUIDE, name
