"""The example of a Slurm array: its workers share one folder."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"
TINY = ["--train-limit=96", "--image-size=16", "--val-share=0.1", "--stem=keep", "--epochs=1"]
TINY += ["--batch-size=32", "--population=2", "--device=cpu", "--barrier-points=3", "--seeds=0,1"]
TINY += ["--barrier-images=20", "--bn-images=32", "--barrier-bn-images=32", "--methods=wash,papa"]


def _script(tmp_path: Path, name: str, *arguments: str, **environment: str) -> subprocess.Popen:
    bin_folder = Path(sys.executable).parent
    path = f"{bin_folder}{os.pathsep}{os.environ['PATH']}"
    return subprocess.Popen(
        ["bash", str(EXAMPLES / name), *arguments],
        env=os.environ | {"PATH": path, "OMP_NUM_THREADS": "1"} | environment,
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.slow
def test_the_slurm_array_shares_one_folder(tmp_path: Path) -> None:
    runs = str(tmp_path / "runs")
    tasks = [
        _script(tmp_path, "slurm_array.sh", "digits", *TINY, SLURM_CPUS_PER_TASK="1", RUNS=runs,
                SLURM_ARRAY_TASK_ID=str(task), SLURM_ARRAY_TASK_COUNT="2")
        for task in (1, 2)
    ]  # fmt: skip
    outputs = [task.communicate(timeout=200) for task in tasks]
    assert [task.returncode for task in tasks] == [0, 0], outputs
    trained = [line for out, _ in outputs for line in out.splitlines() if "training epoch" in line]
    assert len(trained) == 4 == len(set(trained))
    assert any("Report: " in out for out, _ in outputs)
    assert len(pd.read_csv(tmp_path / "runs" / "report" / "summary.csv")) == 4
