"""The folders' imports go down: the contracts of pyproject.toml, and that they bite."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("importlinter")

ROOT = Path(__file__).resolve().parent.parent
LINT = "from importlinter.cli import lint_imports_command as f; f(['--no-cache', '--no-logo'])"


def lint(folder: Path) -> subprocess.CompletedProcess[str]:
    """The contracts, checked on the package that lies in ``folder``."""
    return subprocess.run(
        [sys.executable, "-c", LINT],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(folder), "COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def tree(tmp_path_factory) -> Path:
    """A copy of the package's modules, methods among them, and of the contracts."""
    folder = tmp_path_factory.mktemp("tree")
    skip = shutil.ignore_patterns("__pycache__", "files", "presets", "templates")
    shutil.copytree(ROOT / "wash_bench", folder / "wash_bench", ignore=skip)
    shutil.copy(ROOT / "pyproject.toml", folder)
    return folder


def test_imports_go_down_and_in_no_circle():
    done = lint(ROOT)
    assert done.returncode == 0, done.stdout


@pytest.mark.slow
@pytest.mark.parametrize(
    ("module", "lines", "reason"),
    [
        (
            "core/stray.py",
            "if TYPE_CHECKING:\n    import wash_bench.train.loop",
            "wash_bench.core is not allowed to import wash_bench.train",
        ),
        (
            "merging/stray.py",
            "def late():\n    import wash_bench.record.schema",
            "wash_bench.merging is not allowed to import wash_bench.record",
        ),
        (
            "core/layout.py",
            "import wash_bench.core.population",
            "No cycles are allowed in wash_bench.core",
        ),
        (
            "report/numbers/stray.py",
            "import wash_bench.report.tables.table",
            "wash_bench.report.numbers is not allowed to import wash_bench.report.tables",
        ),
        ("runner/stray.py", "import wash_bench.methods.wash", "Illegal imports of protected"),
        ("stray.py", "", "wash_bench.stray"),
    ],
    ids=["type checking", "in a function", "circle", "in report", "names a method", "no layer"],
)
def test_a_wrong_arrow_is_found(tree, module, lines, reason):
    path = tree / "wash_bench" / module
    before = path.read_text() if path.exists() else None
    path.write_text(f"{before or ''}\n\nfrom typing import TYPE_CHECKING\n\n{lines}\n")
    try:
        done = lint(tree)
    finally:
        path.write_text(before) if before is not None else path.unlink()
    assert done.returncode == 1
    assert reason in " ".join(done.stdout.split()), done.stdout
