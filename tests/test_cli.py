"""The command line: help, start-up, errors in one line, displays, comm's arithmetic."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

from wash_bench.cli.app import app
from wash_bench.cli.display import LiveDisplay, PlainDisplay, display_for, fitting
from wash_bench.cli.main import run_command
from wash_bench.cli.printing import size, span
from wash_bench.runner.progress import Progress
from wash_bench.settings.table import SETTINGS

COMMANDS = ("run", "plan", "comm", "report", "methods", "presets", "datasets", "models")
HEAVY = ("torch", "torchvision", "timm", "pandas", "numpy", "pydantic", "sklearn", "matplotlib")


def imported_by(code: str) -> list[str]:
    """Which heavy packages a fresh interpreter has loaded after running ``code``."""
    script = f"{code}\nimport sys\nprint(*[name for name in {HEAVY!r} if name in sys.modules])"
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return result.stdout.splitlines()[-1].split()


def command(capsys, *arguments: str) -> tuple[int, str, str]:
    code = run_command(arguments)
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_help_imports_nothing_heavy():
    assert imported_by("import wash_bench.cli.app, wash_bench.__main__") == []
    help_text = "from wash_bench.cli.main import run_command\nassert run_command(['--help']) == 0"
    assert imported_by(help_text) == []


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
    for item in SETTINGS.values():
        assert f" {item.flag} " in result.output
        assert item.help in text
        assert f"[default: (the preset's, else {item.default})]" in text
    assert result.output.count("[default: ") == len(SETTINGS) + 2  # and the preset, and its file


def test_top_level(capsys):
    assert command(capsys, "--version") == (0, "wash-bench 0.1.0\n", "")
    code, out, _ = command(capsys)
    assert code == 0
    assert all(name in out for name in COMMANDS)


def test_python_dash_m():
    result = subprocess.run(
        [sys.executable, "-m", "wash_bench", "run", "digts"], capture_output=True, text=True
    )
    assert result.returncode == 2
    assert result.stderr == "wash-bench: error: unknown preset 'digts': did you mean 'digits'?\n"
    assert result.stdout == ""


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["rnu"], "'run'"),
        (["run", "--epoch", "3"], "--epochs"),
        (["run", "digits", "extra"], "extra"),
        (["run", "--epochs"], "--epochs"),
        (["run", "--methods", "wahs"], "'wash'"),
        (["run", "--population", "1"], "at least 2"),
        (["run", "--method", "absent.py:X"], "absent.py"),
        (["run", "--method", "broken.py:X"], "broken.py, line 1"),
        (["run", "--method", "empty.py:X"], "no class 'X'"),
        (["run", "--out", "empty.py"], "not a folder"),
        (["run", "--out", "empty.py/deep"], "not a folder"),
        (["plan", "--epochs", "0"], "at least 1"),
        (["run", "--shard", "4/3"], "--shard 4/3"),
        (["run", "--shard", "half"], "--shard half"),
        (["run", "--stale", "9"], "at least 10"),
        (["run", "--worker", "--shard", "1/2"], "--shard and --worker"),
        (["run", "--worker", "--jobs", "2"], "--jobs"),
        (["comm", "--steps", "0"], "--steps 0"),
        (["comm", "--num-classes", "x"], "--num-classes x"),
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


def outcome(failed=()):
    return SimpleNamespace(finished=["a"], cached=[], failed=list(failed), elsewhere=[])


def stand_in(monkeypatch, result):
    """Replace the training and the report, which have tests of their own."""
    calls = []

    def run_experiment(config, entries, context):
        calls.append((config, entries, context))
        if isinstance(result, BaseException):
            raise result
        return result

    def write_report(roots, out, *, console=None):
        calls.append(("report", roots, out))
        return [out / "table.md"]

    import wash_bench.report.write
    import wash_bench.runner.experiment

    monkeypatch.setattr(wash_bench.runner.experiment, "run_experiment", run_experiment)
    monkeypatch.setattr(wash_bench.report.write, "write_report", write_report)
    return calls


def test_run_hands_over_what_was_asked_and_reports(monkeypatch, capsys, tmp_path):
    calls = stand_in(monkeypatch, outcome())
    out = tmp_path / "r"
    arguments = ["--methods", "wash,papa", "--jobs", "2", "--download", "--out", str(out)]
    code, _, err = command(capsys, "run", "digits", *arguments)
    assert (code, err) == (0, "")
    config, entries, context = calls[0]
    assert config.methods == ("wash", "papa") == tuple(entry.name for entry in entries)
    asked = vars(context).copy()
    del asked["observer"]
    assert asked.pop("world").ranks == 1
    assert asked == {
        "out": out,
        "jobs": 2,
        "threads": 0,
        "download": True,
        "retry_failed": False,
        "debug": False,
        "shard": (1, 1),
        "worker": False,
        "stale": 120,
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


def test_ctrl_c_is_one_line_and_130(monkeypatch, capsys, tmp_path):
    stand_in(monkeypatch, KeyboardInterrupt())
    code, _, err = command(capsys, "run", "--out", str(tmp_path))
    assert code == 130
    assert err.count("\n") == 1 and "kept" in err and "same command" in err


def test_ctrl_c_outside_a_run_is_one_line_too(monkeypatch, capsys):
    import wash_bench.settings.resolve

    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(wash_bench.settings.resolve, "resolve", interrupted)
    for name in ("plan", "comm", "run"):
        assert command(capsys, name) == (130, "", "wash-bench: interrupted\n")


def test_ctrl_c_while_typer_is_imported_is_one_line_too(tmp_path):
    signal = "import os, signal, time\nos.kill(os.getpid(), signal.SIGINT)\ntime.sleep(60)\n"
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


# comm ------------------------------------------------------------------------------------------


def comm(capsys, *arguments: str) -> dict[str, dict]:
    code, out, err = command(capsys, "comm", *arguments, "--json")
    assert (code, err) == (0, "")
    return {row["method"]: row for row in json.loads(out)}


def test_comm_gives_the_closed_forms(capsys):
    """Parameters and sums p_l d_l of the papers' networks, computed from their definition."""
    rows = comm(capsys, "--model", "resnet18", "--stem", "cifar", "--num-classes", "100")
    assert {row["parameters"] for row in rows.values()} == {11_220_132}
    mixed = 0.2154 * 0.001 * 11_220_132 * 2 / 3  # mean of 1 - l/(L-1), p, d, 1 - 1/N
    assert rows["wash"]["sent_values_per_step"] == pytest.approx(mixed, rel=5e-4)
    assert rows["wash-opt"]["sent_values_per_step"] == pytest.approx(
        2 * rows["wash"]["sent_values_per_step"]
    )
    assert rows["papa"]["sent_values_total"] == 100 * 11_220_132
    assert rows["papa"]["sent_bytes_total"] == 4 * rows["papa"]["sent_values_total"]
    # A ring sends 2 (N-1)/N of weights and of BatchNorm's 9,600 statistics.
    assert rows["papa"]["wire_bytes_total"] == pytest.approx(100 * 4 * 4 / 3 * (11_220_132 + 9_600))
    assert rows["papa"]["sent_values_total_std"] == 0 < rows["wash"]["sent_values_total_std"]
    for name in ("greedy-soup", "naive-ensemble"):
        assert rows[name]["sent_values_total"] == rows[name]["wire_bytes_total"] == 0
        assert rows[name]["by_kind"] == {}
    for row in rows.values():
        kinds = row["by_kind"].values()
        assert sum(kind["sent_values"] for kind in kinds) == pytest.approx(row["sent_values_total"])
        assert sum(kind["wire_bytes"] for kind in kinds) == pytest.approx(row["wire_bytes_total"])
        assert row["sent_values_per_step"] * row["steps"] == pytest.approx(row["sent_values_total"])


def test_comm_heeds_its_options(capsys):
    base = ["--model", "test_resnet", "--methods", "wash-opt", "--steps", "50"]
    plain = comm(capsys, *base)["wash-opt"]
    changed = comm(
        capsys, *base, "--population", "5", "--set", "wash-opt.p=0.1", "--optimizer", "adamw"
    )["wash-opt"]
    factor = 100 * (4 / 5) / (2 / 3) * 3 / 2  # p, 1 - 1/N, weights and two moments instead of one
    assert changed["sent_values_total"] == pytest.approx(factor * plain["sent_values_total"])
    code, out, _ = command(capsys, "comm", *base)
    assert code == 0
    assert f"{plain['parameters']:,} parameters" in out and "permute/optimizer x50" in out


def test_what_a_method_without_charges_sends_is_not_predicted(capsys, tmp_path):
    """Neither 0 nor an error: null in JSON, and words in a table."""
    own = tmp_path / "own.py"
    own.write_text(
        "from wash_bench.core.method import Method\n\n\nclass Own(Method):\n"
        "    name, rule, paper, sends = 'own', 'x', 'none', 'all'\n\n"
        "    def after_step(self, population, exchange, clock):\n"
        "        population.weights[:] = exchange.mean(population.weights)\n"
    )
    base = ["--model", "test_resnet", "--methods", "papa", "--method", f"{own}:Own"]
    time = ["--bandwidth", "1Gbit", "--step-time", "10ms"]
    rows = comm(capsys, *base, *time)
    assert rows["own"].keys() == rows["papa"].keys()
    given = ("method", "population", "parameters", "steps")
    assert {key for key, value in rows["own"].items() if value is not None} == set(given)
    assert all(value is not None for value in rows["papa"].values())
    for arguments in (["comm", *base, *time], ["plan", "digits", *base, "--train-limit=64"]):
        code, out, _ = command(capsys, *arguments)
        assert code == 0
        lines = [line for line in out.splitlines() if line.strip().startswith("own ")]
        assert lines and all("not predicted" in line for line in lines)


# Lists -----------------------------------------------------------------------------------------


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


# Displays --------------------------------------------------------------------------------------


def progress(status="training", training="wash-s0", **more) -> Progress:
    return Progress(training, ("wash",), 0, status, epochs=20, **more)


def test_plain_lines():
    now = [0.0]
    stream = io.StringIO()
    display = display_for(stream)
    assert isinstance(display, PlainDisplay)
    display.clock = lambda: now[0]
    with display:
        display(progress("waiting"))
        for step in range(201):  # ten steps an epoch, one second an epoch
            now[0] = step / 10
            accuracy = None if step < 10 else 50.0 + step // 10
            display(progress(epoch=step / 10, step=step, val_acc=accuracy, loss=0.5))
        display(progress("evaluating", epoch=20))
        display(progress("finished", epoch=20, sent_bytes=2_500_000, val_acc=70.0))
        display(progress("failed", training="other", message="member 1: loss is\r\nnot finite"))
    text = stream.getvalue()
    assert "\r" not in text and "\x1b" not in text
    lines = text.splitlines()
    assert lines[0] == "[wash seed 0] waiting"
    validated = [line for line in lines if "] training epoch" in line]
    assert validated[1] == "[wash seed 0] training epoch 5/20 loss 0.5000 validation 55.00 %"
    assert len(validated) == 5  # the start, then one in five seconds
    assert lines[-2].endswith("finished validation 70.00 % sent 2.5 MB a member")
    assert lines[-1] == "[wash seed 0] failed member 1: loss is not finite"


def test_a_reader_that_went_away_does_not_end_the_run():
    class Closed(io.StringIO):
        def flush(self):
            raise BrokenPipeError

    display = PlainDisplay(Closed())
    for status in ("training", "finished"):
        display(Progress("t", ("wash",), 0, status))
    assert display.rows["t"].status == "finished"


def test_live_table(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setenv("TERM", "xterm-256color")
    stream = Terminal()
    display = display_for(stream)
    assert isinstance(display, LiveDisplay)
    with display:
        display(progress(epoch=3, loss=0.25, val_acc=91.5, sent_bytes=12e6, seconds_left=75))
    for part in ("wash", "training", "3.0/20", "0.2500", "91.50 %", "12.0 MB", "1:15"):
        assert part in stream.getvalue()
    monkeypatch.setenv("TERM", "dumb")
    assert isinstance(display_for(stream), PlainDisplay)


def test_a_low_terminal_keeps_what_is_running():
    states = ["cached", "finished", "training", "failed", "waiting", "waiting"]
    rows = [progress(status, training=str(i)) for i, status in enumerate(states)]
    kept, text = fitting(rows, 3)
    assert [row.status for row in kept] == ["training", "failed", "waiting"]
    assert text == "not shown: 1 cached, 1 finished, 1 waiting"
    assert fitting(rows, 6) == (rows, "")


def test_units():
    assert [size(n) for n in (0, 999, 1000, 12_345_678, 4.5e9)] == [
        "0 B", "999 B", "1.0 kB", "12.3 MB", "4.5 GB"
    ]  # fmt: skip
    assert [span(s) for s in (None, 21, 3723, 200_000)] == ["-", "0:21", "1:02:03", "2 d 7 h"]
