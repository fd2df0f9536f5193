"""Reports leave a user's own files alone, and text from elsewhere stays text."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rich.console import Console

from tests.support.command import command
from tests.support.records import write_cell
from wash_bench.errors import UsageError, printable
from wash_bench.report import style, write
from wash_bench.report.csv_text import FORMULA


@pytest.fixture(autouse=True)
def quick_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(style, "save", lambda figure, path: path.write_text('<svg width="72pt">'))


def report(run: Path, out: Path, figures: tuple[str, ...] = ("bytes",)) -> None:
    write.write_report([run], out, figures=figures)


@pytest.mark.fault(
    "Records and reports",
    "files of the user's own in --out of a report or an export",
    "refused, all stand",
)
@settings(
    max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    own=st.sets(st.sampled_from([*write.FILES, "bytes.png", "notes.txt", "pairs.svg"]), min_size=1)
)
def test_a_users_files_are_not_written_over(
    tmp_path_factory: pytest.TempPathFactory, own: set[str]
) -> None:
    folder = tmp_path_factory.mktemp("own")
    write_cell(folder / "run", "papa", 0)
    out = folder / "out"
    out.mkdir()
    for name in own:
        (out / name).write_text(f"my {name}")
    written = own & {*write.FILES, "bytes.png"}
    if written:
        with pytest.raises(UsageError) as refused:
            report(folder / "run", out)
        assert all(name in str(refused.value) for name in written - {"bytes.png"})
    else:
        report(folder / "run", out)
        report(folder / "run", out, ())  # and none is removed as if it had been the report's
    assert all((out / name).read_text() == f"my {name}" for name in own)


@pytest.mark.fault(
    "Kills and stops",
    "a report that is killed while it writes",
    "the next one leaves nothing of it",
)
@pytest.mark.parametrize("moves", range(0, 9, 2))
def test_a_report_that_was_killed_is_made_again_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moves: int
) -> None:
    """Killed while its files are moved; what it had moved is known as the report's."""
    run, out = write_cell(tmp_path / "run", "papa", 0).parents[1], tmp_path / "out"
    replace, count = Path.replace, iter(range(1000))

    def killed(self: Path, target: Path) -> Path:
        if self.parent.name.startswith(write.STAGE) and next(count) >= moves:
            raise KeyboardInterrupt
        return replace(self, target)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "replace", killed)
        patched.setattr(write.shutil, "rmtree", lambda *args, **more: None)
        with pytest.raises(KeyboardInterrupt):
            report(run, out)
    assert list(out.glob(f"{write.STAGE}*"))
    report(run, out)
    assert not list(out.glob(f"{write.STAGE}*"))
    assert {*write.FILES} <= {path.name for path in out.iterdir()}


HOSTILE = st.one_of(
    st.text(max_size=12),
    st.sampled_from(
        [
            "x\nPRESET\ntouch executed\ncat > /dev/null <<'PRESET'\n#",
            "$(touch executed)",
            "`touch executed`; touch executed",
            "'; touch executed; '",
            "\x1b]0;title\x07\x1b[31m",
            "=cmd|' /C calc'!A1",
            "+1+1",
            "@SUM(A1)",
        ]
    ),
)


@pytest.mark.fault(
    "Names and texts",
    "names and reasons in records that are commands, control characters or formulas",
    "they stay text in commands.sh, on the terminal and in CSV files",
)
@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(method=HOSTILE, model=HOSTILE, reason=HOSTILE)
def test_text_of_records_stays_text(
    tmp_path_factory: pytest.TempPathFactory, method: str, model: str, reason: str
) -> None:
    """In a shell, on a terminal, and in a spreadsheet."""
    folder = tmp_path_factory.mktemp("text")
    for seed, status in ((0, "finished"), (1, "failed")):
        path = write_cell(folder / "run", "papa", seed)
        data = json.loads(path.read_text())
        data.pop("checksum", None)
        data["method"], data["status"], data["reason"] = method or "m", status, reason
        data["config"]["training"]["model"] = model or "m"
        path.write_text(json.dumps(data))
    out, stream = folder / "out", io.StringIO()
    console = Console(file=stream, width=200, highlight=False)
    write.write_report([folder / "run"], out, console=console, figures=())

    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", stream.getvalue())
    with (out / "summary.csv").open(newline="", encoding="utf-8") as file:
        for row in csv.reader(file):
            assert all(not text.startswith(FORMULA) or _is_number(text) for text in row)
    stub = folder / "bin" / "wash-bench"
    stub.parent.mkdir()
    stub.write_text("#!/bin/sh\n")
    stub.chmod(0o755)
    paths = os.pathsep.join([str(stub.parent), os.environ["PATH"]])
    subprocess.run(
        ["sh", out / "commands.sh"],
        cwd=folder,
        env={"PATH": paths},
        capture_output=True,
        check=False,
    )
    assert not (folder / "executed").exists()


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


@given(text=st.text())
def test_what_is_printed_has_no_control_characters(text: str) -> None:
    shown = printable(text)
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", shown)
    if text.isprintable():
        assert shown == text


def test_an_error_line_has_no_control_characters(tmp_path: Path, capsys) -> None:
    code, out, err = command(capsys, "report", str(tmp_path / "no\x1b[31mfolder"))
    assert code == 2 and "\x1b" not in out + err and "\\x1b[31mfolder" in err
