"""``wash-bench new-method``: what it writes runs as it is, and nothing is overwritten."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.ranks import exit_code_of
from wash_bench.cli.main import run_command
from wash_bench.cli.new_method import names_of

KINDS = {"training": "my-rule", "merge": "my-soup", "wrapper": "my_average"}
SHORT = ["--epochs=1", "--train-limit=150", "--val-share=0.1", "--barrier-points=3"]
SHORT += ["--barrier-images=20", "--bn-images=32", "--barrier-bn-images=32", "--seeds=0"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("new") / "methods"
    for kind, name in KINDS.items():
        assert run_command(["new-method", name, "--kind", kind, "--out", str(folder)]) == 0
    return folder


def _pytest(folder: Path, log: Path) -> None:
    os.chdir(folder)
    with log.open("w") as stream, contextlib.redirect_stdout(stream):
        code = pytest.main(["-q", "-p", "no:cacheprovider", "."])
    sys.exit(int(code))


@pytest.mark.slow
def test_the_tests_that_it_writes_pass(folder: Path, tmp_path: Path) -> None:
    code = exit_code_of(_pytest, folder, tmp_path / "log")
    shown = (tmp_path / "log").read_text()
    assert code == 0, shown
    assert "6 passed" in shown


@pytest.mark.slow
def test_the_methods_that_it_writes_run(folder: Path, tmp_path: Path) -> None:
    methods = ["naive-ensemble", f"{folder}/my_rule.py:MyRule", f"{folder}/my_soup.py:MySoup"]
    methods += [f"{folder}/my_average.py:MyAverage"]
    arguments = ["run", "digits", "--methods", ",".join(methods), "--out", str(tmp_path), *SHORT]
    assert (
        run_command(
            [*arguments, "--jobs=1", "--no-report", "--model=test_resnet", "--set=my-rule.every=1"]
        )
        == 0
    )
    records = [json.loads(path.read_text()) for path in tmp_path.glob("cells/*.json")]
    summaries = {record["method"]: record["summary"] for record in records}
    assert summaries.keys() == {"naive-ensemble", *KINDS.values()}
    assert summaries["my-rule"]["sent_values_total"] > 0


@pytest.mark.slow
def test_methods_of_files_compose_with_installed_ones_and_with_one_another(
    folder: Path, tmp_path: Path, capfd
) -> None:
    names = ["wash+my-soup", "my-rule+my_average", "my-rule"]
    arguments = ["run", "digits", "--methods", ",".join(names), "--out", str(tmp_path), *SHORT]
    files = [f"--method={folder}/my_rule.py:MyRule", f"--method={folder}/my_soup.py:MySoup"]
    files += [f"--method={folder}/my_average.py:MyAverage"]
    arguments += [*files, "--set=my-rule.every=1", "--no-report", "--model=test_resnet"]
    assert run_command([*arguments, "--jobs=2"]) == 0
    records = [json.loads(path.read_text()) for path in tmp_path.glob("cells/*.json")]
    assert sorted(record["method"] for record in records) == sorted(names)  # and none alone
    by_method = {record["method"]: record["summary"] for record in records}
    assert by_method["my-rule+my_average"]["sent_values_total"] > 0
    capfd.readouterr()
    assert run_command([*arguments, "--jobs=1"]) == 0
    assert capfd.readouterr().out.count("not trained again") == 3
    assert run_command([*arguments[:2], "--methods", "wash+my-sup", *arguments[4:]]) == 2
    assert "'my-sup'" in (told := capfd.readouterr().err) and "my-soup" in told


def test_a_method_of_the_package_has_its_test_among_the_tests(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("wash_bench.plugins.registry.FOLDER", tmp_path / "methods")
    (tmp_path / "methods").mkdir()
    assert run_command(["new-method", "my-soup", "--kind=merge", f"--out={tmp_path}/methods"]) == 0
    assert [path.name for path in (tmp_path / "methods").iterdir()] == ["my_soup.py"]
    test = (tmp_path / "tests" / "methods" / "test_my_soup.py").read_text()
    assert "from wash_bench.methods.my_soup import MySoup" in test
    assert 'find_method("my-soup")' in test


@pytest.mark.parametrize("name", KINDS.values())
def test_the_files_are_tidy(folder: Path, name: str) -> None:
    pytest.importorskip("ruff")
    module, cls = names_of(name)
    code = (folder / f"{module}.py").read_text()
    assert f"class {cls}(" in code and f'name = "{name}"' in code and "$" not in code
    assert len(code.splitlines()) <= 50
    files = [f"{module}.py", f"test_{module}.py"]
    for command in (["check", "--select", "E,F,I,B,UP"], ["format", "--check"]):
        subprocess.run(
            [sys.executable, "-m", "ruff", *command, "--isolated", "--line-length=100", *files],
            cwd=folder, check=True, stdout=subprocess.DEVNULL,
        )  # fmt: skip


def test_it_says_what_to_do_next(tmp_path: Path, capfd, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert run_command(["new-method", "halfway"]) == 0
    said = capfd.readouterr().out
    for line in (
        "Wrote halfway.py and test_halfway.py",
        "wash-bench run digits --methods halfway.py:Halfway",
        "wash-bench check halfway.py:Halfway",
        "pytest test_halfway.py",
    ):
        assert line in said


@pytest.mark.parametrize("there", ["halfway.py", "test_halfway.py"])
def test_nothing_is_overwritten(there: str, tmp_path: Path, capfd) -> None:
    (tmp_path / there).write_text("mine")
    assert run_command(["new-method", "halfway", "--out", str(tmp_path)]) == 2
    told = capfd.readouterr().err
    assert "is there already: choose another NAME" in told and len(told.splitlines()) == 1
    assert [path.name for path in tmp_path.iterdir()] == [there]
    assert (tmp_path / there).read_text() == "mine"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("wash", "belongs to an installed method"),
        ("random", "would hide an installed module"),
        ("class", "a word of Python's"),
        ("2fast", "begin with a letter"),
        ("../up", "begin with a letter"),
    ],
)
def test_names_that_cannot_be_are_refused(name: str, said: str, tmp_path: Path, capfd) -> None:
    assert run_command(["new-method", name, "--out", str(tmp_path)]) == 2
    told = capfd.readouterr().err
    assert said in told and len(told.splitlines()) == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("command", ["new-method", "check"])
def test_help_is_light(command: str) -> None:
    code = (
        "import sys\nfrom wash_bench.cli.main import run_command\n"
        f"assert run_command(['{command}', '--help']) == 0\n"
        "sys.exit('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "Examples" in done.stdout
