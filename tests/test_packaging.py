"""The wheel: one top-level package, with its presets and data, working away from the clone."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation",
         "--disable-pip-version-check", "--wheel-dir", str(folder), str(ROOT)],
        check=True,
    )  # fmt: skip
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "site")
    return folder / "site"


def test_only_wash_bench_is_installed(unpacked: Path) -> None:
    tops = {path.name for path in unpacked.iterdir() if not path.name.endswith(".dist-info")}
    assert tops == {"wash_bench"}
    assert (unpacked / "wash_bench/methods/wash.py").exists()
    assert (unpacked / "wash_bench/presets/digits.toml").exists()
    assert (unpacked / "wash_bench/data/files/fashion_mini.npz").exists()
    assert any((unpacked / "wash_bench/data/files").glob("*LICEN*"))


@pytest.mark.parametrize("arguments", [["methods"], ["presets", "digits"], ["datasets"]])
def test_works_away_from_the_clone(unpacked: Path, tmp_path: Path, arguments: list[str]) -> None:
    environment = os.environ | {"PYTHONPATH": str(unpacked)}
    where = "import wash_bench, wash_bench.methods; print(wash_bench.methods.__file__)"
    shown = subprocess.run(
        [sys.executable, "-c", where],
        cwd=tmp_path, env=environment, check=True, capture_output=True, text=True,
    )  # fmt: skip
    assert shown.stdout.startswith(str(unpacked))
    done = subprocess.run(
        [sys.executable, "-m", "wash_bench", *arguments],
        cwd=tmp_path, env=environment, check=True, capture_output=True, text=True,
    )  # fmt: skip
    assert "wash" in done.stdout or "digits" in done.stdout
