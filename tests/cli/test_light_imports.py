"""What is answered without the heavy packages: lists, and a run in which everything is finished."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.records import write_cell
from wash_bench.cli.main import run_command
from wash_bench.study.device import device_type
from wash_bench.study.resolve import resolve

HEAVY = ("torch", "torchvision", "timm", "matplotlib", "pandas", "scipy", "sklearn")
LAYERS = (
    *("config", "study.resolve", "study.options", "plugins.registry", "record.store"),
    *("study.cells", "record.locks", "runner.context", "runner.experiment", "runner.queue"),
    *(
        "distributed.process_group",
        "distributed.world",
        "core.method",
        "core.wrapper",
        "data.catalog",
    ),
)


def loaded(code: str) -> tuple[list[str], str]:
    """The heavy packages that a fresh interpreter has loaded after ``code``, and its output."""
    script = f"{code}\nimport sys\nprint(*[name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    *output, last = done.stdout.splitlines()
    return last.split(), "\n".join(output)


def after(*commands: list[str]) -> tuple[list[str], str]:
    """The same after command lines that succeed."""
    lines = [f"assert run_command({arguments!r}) == 0" for arguments in commands]
    return loaded("\n".join(["from wash_bench.cli.main import run_command", *lines]))


def finish(out: Path, **options: str) -> list[str]:
    """Records as if a run with these options had finished; its command line."""
    resolved = resolve("digits", None, options)
    for cell in resolved.cells():
        path = write_cell(out, cell.method, cell.seed, dataset="digits", epochs=10)
        record = json.loads(path.read_text())
        old = out / "trainings" / record["training_id"]
        ids = ("cell_id", "training_id", "evaluation_id", "experiment_id")
        record |= {name: getattr(cell, name) for name in ids}
        path.unlink()
        path.with_name(f"{cell.cell_id}.json").write_text(json.dumps(record))
        if not (new := old.with_name(cell.training_id)).exists():
            old.rename(new)
    given = [f"--{name.replace('_', '-')}={value}" for name, value in options.items()]
    return ["run", "digits", *given, f"--out={out}"]


def test_settings_registry_records_and_the_queue_import_nothing_heavy() -> None:
    code = "import " + ", ".join(f"wash_bench.{name}" for name in LAYERS)
    assert loaded(code)[0] == []


@pytest.mark.slow
def test_lists_import_nothing_heavy() -> None:
    heavy, told = after(["--help"], ["methods"], ["methods", "wash+ema"], ["presets"], ["datasets"])
    assert heavy == [] and "naive-ensemble" in told


@pytest.mark.parametrize("option", [[], ["--worker"]], ids=["plain", "worker"])
@pytest.mark.slow
def test_a_finished_run_imports_nothing_heavy(tmp_path: Path, option: list[str]) -> None:
    command = finish(tmp_path, methods="wash,papa,greedy-soup,naive-ensemble", seeds="0,1")
    heavy, told = after([*command, "--no-report", *option])
    assert heavy == []
    assert told.count("finished earlier, not trained again") == 6  # two methods share a training


@pytest.mark.slow
def test_a_finished_run_prints_the_table_of_a_report_that_stands(tmp_path: Path, capsys) -> None:
    command = finish(tmp_path, methods="wash,papa", seeds="0,1")
    assert run_command(command) == 0
    first = capsys.readouterr().out
    report = {path: path.stat().st_mtime_ns for path in (tmp_path / "report").iterdir()}
    heavy, told = after(command)
    assert heavy == []
    assert told == first.rstrip("\n") and "\n| wash " in told
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "report").iterdir()} == report


@pytest.mark.slow
def test_a_finished_run_of_a_device_that_is_not_here_is_found(tmp_path: Path) -> None:
    command = finish(tmp_path, methods="papa", device="cuda:3")
    heavy, told = after([*command, "--no-report"])
    assert heavy == [] and "finished earlier" in told


def test_the_type_of_a_device() -> None:
    import torch

    from wash_bench.study.device import resolve_device

    assert [device_type(name) for name in ("cpu", "cuda", "cuda:1", "mps")] == [
        *("cpu", "cuda", "cuda", "mps")
    ]
    assert device_type("auto") == resolve_device("auto").type
    assert torch.device("cuda:1").type == device_type("cuda:1")
