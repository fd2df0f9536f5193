"""A method in a distribution of its own, as the guide makes it, is found by its entry point."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.test_own_method_guide import blocks, files

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    """Where the guide's package is installed."""
    source, target = tmp_path_factory.mktemp("package"), tmp_path_factory.mktemp("site")
    for name, code in files().items():
        (source / name).write_text(code)
    (project,) = blocks("toml")
    (source / "pyproject.toml").write_text(project)
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation",
         "--no-index", "--disable-pip-version-check", "--target", str(target), str(source)],
        check=True,
    )  # fmt: skip
    return target


def wash_bench(site: Path, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "wash_bench", *arguments],
        cwd=folder, env=os.environ | {"PYTHONPATH": str(site)},
        check=False, capture_output=True, text=True,
    )  # fmt: skip


def test_it_is_found_and_described(site: Path, tmp_path: Path) -> None:
    listed = wash_bench(site, tmp_path, "methods")
    assert listed.returncode == 0, listed.stderr
    names = {line.split()[0] for line in listed.stdout.splitlines() if line.strip()}
    assert {"circle", "wash"} <= names
    shown = wash_bench(site, tmp_path, "methods", "circle")
    assert "circle.every" in shown.stdout and "a random circle" in shown.stdout


def test_without_the_package_it_is_unknown(tmp_path: Path) -> None:
    missing = wash_bench(tmp_path, tmp_path, "methods", "circle")
    assert missing.returncode == 2 and "unknown method 'circle'" in missing.stderr
