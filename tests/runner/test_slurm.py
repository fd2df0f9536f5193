"""The examples of Slurm arrays: workers that share one folder, on CPUs and on GPUs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from wash_bench.study.options import OPTIONS

FLAGS = [setting.flag for setting in OPTIONS.values()]
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


def test_the_gpu_array_asks_for_a_gpu_and_runs_a_worker_on_it(tmp_path: Path) -> None:
    stubs = {"nvidia-smi": "true", "wash-bench": 'echo "$@"', "activate": ""}
    for name, text in stubs.items():
        stub = tmp_path / "venv" / "bin" / name
        stub.parent.mkdir(parents=True, exist_ok=True)
        stub.write_text(f"#!/bin/bash\n{text}\n")
        stub.chmod(0o755)
    path = f"{tmp_path / 'venv/bin'}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", str(EXAMPLES / "slurm_gpu.sh"), "digits", "--seeds", "0,1"],
        env=os.environ | {"PATH": path, "VENV": str(tmp_path / "venv"), "DATA": "images",
                          "SLURM_CPUS_PER_TASK": "8", "RUNS": "shared"},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    called = done.stdout.split()
    assert done.stdout.strip() == (
        "run digits --seeds 0,1 --data-dir images --device cuda --threads 8 --worker --out shared"
    )
    assert {word for word in called if word.startswith("--")} <= {*FLAGS}
    head = (EXAMPLES / "slurm_gpu.sh").read_text().partition("set -euo")[0]
    for needed in ("--gres=gpu:", "--output=", "--time=", "--array="):
        assert f"#SBATCH {needed}" in head
