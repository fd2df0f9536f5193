"""Every command of the README and of the pages for newcomers runs; tables are as committed."""

from __future__ import annotations

import importlib
import json
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
import timm
import torch

from tests.support.timm_networks import left_by_timm, pictures
from wash_bench.cli.main import run_command

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")

# What makes a run short; stands last, so it wins over the README's own values.
SHORT = ["--epochs=1", "--train-limit=150", "--val-share=0.1", "--barrier-points=3"]
SHORT += ["--barrier-images=20", "--bn-images=32", "--barrier-bn-images=32"]
SHORT += ["--jobs=1", "--threads=1"]


def _commands(text: str) -> list[str]:
    blocks = re.findall(r"```bash\n(.*?)```", text, flags=re.DOTALL)
    joined = "\n".join(blocks).replace("\\\n", " ")
    lines = [line.partition("  #")[0].strip() for line in joined.splitlines()]
    return [" ".join(line.split()) for line in lines if line and not line.startswith("#")]


def test_the_readme_has_the_commands_that_matter() -> None:
    commands = _commands(README)
    assert "make demo" in commands
    assert "make test" in commands
    assert sum(command.startswith("wash-bench run") for command in commands) >= 2
    assert sum(command.startswith("wash-bench merge") for command in commands) == 1


@pytest.mark.parametrize("command", [c for c in _commands(README) if c.startswith("make ")])
def test_make_targets_exist(command: str) -> None:
    subprocess.run([*shlex.split(command), "-n"], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Where the reader stands: with the README's method file, images of pets, and networks."""
    folder = tmp_path_factory.mktemp("reader")
    for name, code in re.findall(r"```python\n# (\w+\.py)\n(.*?)```", README, flags=re.DOTALL):
        (folder / name).write_text(code)
    pictures(folder / "pets")
    for seed in range(3):
        torch.manual_seed(seed)
        left_by_timm(folder / f"run{seed + 1}", timm.create_model("test_resnet", num_classes=3))
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("page", ["README.md", "docs/tutorial.md", "docs/your-data.md"])
def test_wash_bench_commands_run(
    page: str, folder: Path, tmp_path: Path, monkeypatch, capfd
) -> None:
    """In their order, as a reader types them."""
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    commands = _commands((ROOT / page).read_text(encoding="utf-8"))
    for command in (command for command in commands if command.startswith("wash-bench ")):
        arguments = _shortened(shlex.split(command)[1:])
        if arguments:
            code = run_command(arguments)
            captured = capfd.readouterr()
            assert code == 0, f"{command}: {captured.err}"
            assert captured.out.strip()


@pytest.mark.slow
def test_averages_of_the_readmes_first_task_work(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd
) -> None:
    """At full length, with every default of its command, but on smaller images and one seed."""
    shutil.copytree(folder / "pets", tmp_path / "pets")
    monkeypatch.chdir(tmp_path)
    (line,) = [c for c in _commands(README) if c.startswith("wash-bench run --dataset folder:")]
    arguments = _without(shlex.split(line)[1:], "--seeds")
    assert not {"--epochs", "--init", "--rescale-coupling"} & {*arguments}
    assert run_command([*arguments, "--image-size=16", "--threads=1", "--no-report"]) == 0
    records = [json.loads(path.read_text()) for path in Path("runs/cells").glob("*.json")]
    assert {record["method"] for record in records} == {"wash", "papa"}
    for record in records:
        summary = record["summary"]
        assert summary["member_acc_mean"] > 60  # of three classes, so that a collapse shows
        assert summary["average_acc"] >= 0.7 * summary["member_acc_mean"]


def _found(word: str) -> list[str]:
    """What a shell makes of a word with a star."""
    return [str(path) for path in sorted(Path().glob(word))] if "*" in word else [word]


def _without(arguments: list[str], flag: str) -> list[str]:
    """The words without an option and its value: lists that are given twice are joined."""
    if flag not in arguments:
        return [word for word in arguments if not word.startswith(f"{flag}=")]
    at = arguments.index(flag)
    return arguments[:at] + arguments[at + 2 :]


def _shortened(arguments: list[str]) -> list[str]:
    """A command with little to do; none where its data are not here."""
    arguments = [found for word in arguments for found in _found(word)]
    if arguments[0] in ("run", "plan", "tune"):
        seeds = "100" if arguments[0] == "tune" else "0"
        arguments = [*_without(arguments, "--seeds"), *SHORT, f"--seeds={seeds}"]
        arguments += ["--model=test_resnet"] if "cifar100-resnet18" in arguments else []
        if "folder:pets" in arguments:
            arguments += ["--model=test_resnet", "--image-size=32", "--batch-size=8", "--threads=1"]
        if "fashion-mnist" in arguments and not Path("/usr/share/datasets/fashion-mnist").exists():
            return []  # needs the files of the Debian package dataset-fashion-mnist
        if "fashion-mnist" in arguments:
            arguments = _without(arguments, "--methods")
            arguments += ["--methods=wash", "--classes=0,1"]  # 2,000 test images of 10,000
        arguments += ["--no-report"] if arguments[0] == "run" else []  # the report command does
    if arguments[0] == "report" and "--out" in arguments:  # one with all figures is enough
        arguments += ["--figures=barrier"]
    if arguments[0] == "merge":
        arguments += ["--val-share=0.3", "--barrier-points=3", "--threads=1", "--device=cpu"]
    return arguments


def test_the_method_of_the_readme_is_under_thirty_lines(folder: Path) -> None:
    assert len((folder / "periodic.py").read_text().splitlines()) <= 30


def test_the_pages_are_as_reports_and_code_make_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "scripts")
    pages = importlib.import_module("update_readme")
    for name in pages.PAGES:
        text = (ROOT / name).read_text(encoding="utf-8")
        assert pages.updated(text, ROOT / name) == text, f"{name} is out of date: run make pages"


def test_links_and_pictures_point_at_files() -> None:
    for target in re.findall(r"\]\(([^)#][^)]*)\)", README):
        if not target.startswith("http"):
            assert (ROOT / target.partition("#")[0]).exists(), target
