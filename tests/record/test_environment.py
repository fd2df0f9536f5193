"""Where a training ran: true, flat, and of no other repository."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import numpy as np

from wash_bench.record.environment import capture


def test_environment_is_flat_and_true():
    from importlib.metadata import version

    row = capture()
    assert all(isinstance(value, str | int | float) for value in row.values())
    assert row["torch"] == version("torch")
    assert row["numpy"] == np.__version__
    assert row["python"] == ".".join(map(str, sys.version_info[:3]))
    assert 1 <= row["cpu_cores"] <= os.cpu_count()
    assert row["cpu"] and row["date"].endswith("+00:00")


def test_commit_of_a_foreign_repository_is_not_ours(tmp_path, capfd):
    from wash_bench.record import environment

    (tmp_path / "pyproject.toml").write_text('[project]\nname = "wash-bench"\n')
    (tmp_path / ".git").mkdir()  # no repository: git fails
    assert environment._commit(tmp_path) == ""
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    (tmp_path / "file").write_text("1")
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b.c"]
    subprocess.run([*git, "add", "."], check=True)
    subprocess.run([*git, "commit", "-qm", "x"], check=True)
    commit = environment._commit(tmp_path)
    assert re.fullmatch(r"[0-9a-f]{12}", commit)
    (tmp_path / "file").write_text("2")
    assert environment._commit(tmp_path) == f"{commit}-dirty"
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "other"\n')
    assert environment._commit(tmp_path) == ""
    assert capfd.readouterr().err == ""
