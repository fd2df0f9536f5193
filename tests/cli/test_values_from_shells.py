"""What shells and platforms hand over: empty values, a rank of one process, names, bounds."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.support.command import Command, command
from tests.support.records import write_cell
from wash_bench.errors import UsageError
from wash_bench.report.tables.compare import compare
from wash_bench.report.write import write_report
from wash_bench.study.resolve import resolve

TINY = ("--image-size=8", "--model=resnet8", "--epochs=1", "--train-limit=96", "--population=2")
TINY += ("--methods=wash", "--seeds=0", "--barrier-points=3", "--barrier-images=20", "--no-report")


@pytest.mark.fault(
    "Options and presets", "an empty value, as of an unset shell variable", "one line, exit 2"
)
@pytest.mark.parametrize(
    ("words", "named"),
    [
        (("run", "digits", "--out", ""), "--out"),
        (("run", "digits", "--out="), "--out"),
        (("report", "runs", "--out", ""), "--out"),
        (("export", "wash", "--runs", ""), "--runs"),
        (("prepare", "photos", "--out="), "--out"),
        (("tune", "digits", "--tables", ""), "--tables"),
        (("merge", "a", "b", "--data-dir", ""), "--data-dir"),
    ],
)
def test_an_empty_value_is_refused(
    words: tuple[str, ...], named: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    monkeypatch.chdir(tmp_path)
    code, _, err = command(capsys, *words)
    assert code == 2 and f"{named}: its value is empty" in err
    assert not list(tmp_path.iterdir())


def test_an_empty_folder_is_refused_in_a_program_too() -> None:
    with pytest.raises(UsageError, match="is empty: name a folder"):
        resolve("digits", None, {"out": ""})


@pytest.mark.parametrize("threads", ["-1", "1025", "100000", "99999999999999999999"])
def test_threads_have_bounds(threads: str, capsys) -> None:
    code, _, err = command(capsys, "run", "digits", "--threads", threads)
    assert code == 2 and len(err.splitlines()) == 1 and "--threads" in err


@pytest.mark.fault("The machine", "RANK of a platform with one process", "`--nproc` is obeyed")
@pytest.mark.slow
def test_a_platforms_rank_of_one_process_is_no_group(tmp_path: Path) -> None:
    env = os.environ | {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0"}
    env |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29511"}
    run = Command(["run", "digits", *TINY, "--nproc=2", f"--out={tmp_path}"], env=env)
    _, err = run.communicate(timeout=120)
    assert run.returncode == 0, err
    (cell,) = tmp_path.glob("cells/*.json")
    assert '"ranks": 2' in cell.read_text()


def test_a_rank_of_several_does_not_start_processes(tmp_path: Path, monkeypatch, capsys) -> None:
    for name, value in {"RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "0"}.items():
        monkeypatch.setenv(name, value)
    code, _, err = command(capsys, "run", "digits", *TINY, "--nproc=2", f"--out={tmp_path}")
    assert code == 2 and "leave --nproc out" in err


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="its paths are Unicode")
def test_a_path_that_is_not_utf8(tmp_path: Path) -> None:
    from tests.support.images import class_folders

    images = os.fsdecode(os.fsencode(tmp_path) + b"/im\xe9ages")
    class_folders(Path(images), 20, 8, 8, test_count=4)
    run = ["run", "--dataset", f"folder:{images}", *TINY[:3], *TINY[4:8], "--batch-size=10"]
    done = Command([*run, f"--out={tmp_path / 'runs'}"])
    _, err = done.communicate(timeout=120)
    assert done.returncode == 0, err


@pytest.mark.parametrize("name", ["null", "NA", "nan", "None", "true"])
def test_a_method_of_any_name_is_compared(tmp_path: Path, name: str) -> None:
    for seed in (0, 1):
        write_cell(tmp_path / "run", name, seed)
    write_report([tmp_path / "run"], tmp_path / "report", figures=())
    for side in ("run", "report"):
        text = compare(tmp_path / side, tmp_path / side).markdown()
        assert f"| {name} |" in text, side
