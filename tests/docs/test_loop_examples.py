"""The examples of training loops in docs/examples run as they are."""

from __future__ import annotations

import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.support.images import class_folders

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"
pytestmark = pytest.mark.filterwarnings("ignore:.*too rarely")


def test_the_plain_example_runs(capsys) -> None:
    runpy.run_path(str(EXAMPLES / "plain_loop.py"), run_name="__main__")
    members, average = (
        float(part.split()[-1]) for part in capsys.readouterr().out.splitlines()[0].split(",")
    )
    assert average < 1.2 * members


@pytest.mark.slow
def test_the_timm_example_runs(tmp_path, monkeypatch, capsys) -> None:
    class_folders(tmp_path / "images", 40, 70, 66)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["timm_loop.py", str(tmp_path / "images" / "train"), "1"])
    runpy.run_path(str(EXAMPLES / "timm_loop.py"), run_name="__main__")
    assert "MB a member" in capsys.readouterr().out
    assert torch.load(tmp_path / "average.pth", weights_only=True)


@pytest.mark.slow
def test_the_lightning_example_runs(tmp_path, monkeypatch, capsys) -> None:
    pytest.importorskip("lightning", reason="pip install lightning")
    monkeypatch.chdir(tmp_path)
    runpy.run_path(str(EXAMPLES / "lightning_callback.py"), run_name="__main__")
    assert "average 0." in capsys.readouterr().out


@pytest.mark.slow
def test_the_torchrun_example_runs() -> None:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += ["--nproc-per-node", "2", str(EXAMPLES / "torchrun_loop.py")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert "average 0." in done.stdout
