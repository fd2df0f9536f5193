"""Every command of the README runs, and its tables are those of the committed reports."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from wash_bench.cli.main import run_command

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")

# What makes a run short; stands last, so it wins over the README's own values.
SHORT = ["--epochs=1", "--train-limit=150", "--val-share=0.1", "--barrier-points=3"]
SHORT += ["--barrier-images=20", "--bn-images=32", "--barrier-bn-images=32", "--seeds=0"]


def _commands() -> list[str]:
    blocks = re.findall(r"```bash\n(.*?)```", README, flags=re.DOTALL)
    lines = [line.partition("  #")[0].strip() for block in blocks for line in block.splitlines()]
    return [line for line in lines if line and not line.startswith("#")]


def test_the_readme_has_the_commands_that_matter() -> None:
    commands = _commands()
    assert "make demo" in commands
    assert "make test" in commands
    assert sum(command.startswith("wash-bench run") for command in commands) >= 3


@pytest.mark.parametrize("command", [c for c in _commands() if c.startswith("make ")])
def test_make_targets_exist(command: str) -> None:
    subprocess.run([*shlex.split(command), "-n"], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Where the README's reader stands: the method file of the README lies there."""
    folder = tmp_path_factory.mktemp("reader")
    for name, code in re.findall(r"```python\n# (\w+\.py)\n(.*?)```", README, flags=re.DOTALL):
        (folder / name).write_text(code)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("command", [c for c in _commands() if c.startswith("wash-bench ")])
def test_wash_bench_commands_run(command: str, folder: Path, monkeypatch, capfd) -> None:
    monkeypatch.chdir(folder)
    arguments = shlex.split(command)[1:]
    if arguments[0] in ("run", "plan", "tune"):
        arguments += SHORT if arguments[0] != "tune" else [*SHORT, "--seeds=100"]
        arguments += ["--model=test_resnet"] if "cifar100-resnet18" in arguments else []
        if "fashion-mnist" in arguments and not Path("/usr/share/datasets/fashion-mnist").exists():
            pytest.skip("needs the files of the Debian package dataset-fashion-mnist")
        if "fashion-mnist" in arguments:
            arguments += ["--methods=wash", "--classes=0,1"]  # 2,000 test images of 10,000
        if "--method" in arguments:
            arguments += ["--methods=wash"]
        arguments += ["--no-report"] if arguments[0] == "run" else []  # the report command does
    if arguments[0] == "report" and not Path("runs").exists():  # another worker has run them
        assert run_command(["run", *SHORT, "--methods=wash", "--no-report"]) == 0
    code = run_command(arguments)
    captured = capfd.readouterr()
    assert code == 0, captured.err
    assert captured.out.strip()


def test_the_method_of_the_readme_is_under_thirty_lines(folder: Path) -> None:
    assert len((folder / "periodic.py").read_text().splitlines()) <= 30


def test_the_readmes_tables_are_the_committed_ones() -> None:
    done = subprocess.run(
        [sys.executable, "scripts/update_readme.py", "--check"],
        cwd=ROOT,
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


def test_links_and_pictures_point_at_files() -> None:
    for target in re.findall(r"\]\(([^)#][^)]*)\)", README):
        if not target.startswith("http"):
            assert (ROOT / target.partition("#")[0]).exists(), target
