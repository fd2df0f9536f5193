"""The run command: what it hands over, exit codes, Ctrl-C."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.support.command import command


def outcome(failed=()):
    from wash_bench.runner.queue import Outcome

    return Outcome(finished=["a"], failed=list(failed))


def stand_in(monkeypatch, result):
    """Replace the training and the report, which have tests of their own."""
    calls = []

    def run_cells(cells, context):
        calls.append((cells, context))
        if isinstance(result, BaseException):
            raise result
        return result

    def write_report(roots, out, *, console=None):
        calls.append(("report", roots, out))
        return [out / "table.md"]

    import wash_bench.report.write
    import wash_bench.runner.experiment

    monkeypatch.setattr(wash_bench.runner.experiment, "run_cells", run_cells)
    monkeypatch.setattr(wash_bench.report.write, "write_report", write_report)
    return calls


def test_run_hands_over_what_was_asked_and_reports(monkeypatch, capsys, tmp_path):
    calls = stand_in(monkeypatch, outcome())
    out = tmp_path / "r"
    arguments = ["--methods", "wash,papa", "--jobs", "2", "--download", "--out", str(out)]
    code, _, err = command(capsys, "run", "digits", *arguments)
    assert (code, err) == (0, "")
    cells, context = calls[0]
    assert {cell.method for cell in cells} == {"wash", "papa"}
    asked = vars(context).copy()
    del asked["observer"]
    assert asked.pop("world").ranks == 1
    assert asked == {
        "method": (),
        "report": True,
        "procs": 1,
        "out": out,
        "jobs": 2,
        "threads": 0,
        "download": True,
        "retry_failed": False,
        "debug": False,
        "shard": (1, 1),
        "worker": False,
        "silence": 15,
        "time_limit": 0,
        "log": (),
    }
    assert calls[1] == ("report", [out], out / "report")


def test_failed_cells_give_exit_code_1_after_the_report(monkeypatch, capsys, tmp_path):
    calls = stand_in(monkeypatch, outcome([("wash-s0", "member 1: loss is\nnot finite")]))
    code, _, err = command(capsys, "run", "--out", str(tmp_path))
    assert code == 1
    failed, advice = err.splitlines()
    assert failed == "wash-bench: failed: wash-s0: member 1: loss is not finite"
    assert "--retry-failed" in advice
    assert calls[1][0] == "report"


@pytest.mark.fault("Kills and stops", "Ctrl-C", "one line, exit 130")
def test_ctrl_c_is_one_line_and_130(monkeypatch, capsys, tmp_path):
    stand_in(monkeypatch, KeyboardInterrupt())
    code, _, err = command(capsys, "run", "--out", str(tmp_path))
    assert code == 130
    assert err.count("\n") == 1 and "kept" in err and "same command" in err


def test_ctrl_c_outside_a_run_is_one_line_too(monkeypatch, capsys):
    import wash_bench.study.resolve

    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(wash_bench.study.resolve, "resolve", interrupted)
    for name in ("plan", "comm", "run"):
        assert command(capsys, name) == (130, "", "wash-bench: interrupted\n")


def test_ctrl_c_while_typer_is_imported_is_one_line_too(tmp_path):
    signal = (
        "import os, signal, time\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)  # a job of a script ignores it\n"
        "os.kill(os.getpid(), signal.SIGINT)\ntime.sleep(60)\n"
    )
    (tmp_path / "typer.py").write_text(signal)
    result = subprocess.run(
        [sys.executable, "-m", "wash_bench", "run"],
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 130
    assert (result.stdout, result.stderr) == ("", "wash-bench: interrupted\n")


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (OSError(28, "No space left on device", "r/x"), "No space left on device: r/x"),
        (RuntimeError("a\nb"), "internal error, RuntimeError: a b (--debug shows where)"),
    ],
)
def test_failures_are_one_line_and_1(monkeypatch, capsys, tmp_path, error, text):
    stand_in(monkeypatch, error)
    code, _, err = command(capsys, "run", "--out", str(tmp_path))
    assert (code, err) == (1, f"wash-bench: error: {text}\n")
