"""Where the run folders are that a user names."""

from __future__ import annotations

from pathlib import Path

from wash_bench.errors import UsageError


def run_folders(root: Path) -> list[Path]:
    """The run folders that a user means.

    Args:
        root: a run folder, or a folder that holds some.

    Returns:
        ``root`` if it is a run folder, else those that lie in it.

    Raises:
        UsageError: it is not a folder.
    """
    if not root.is_dir():
        raise UsageError(f"no folder {root}: give a folder that 'wash-bench run --out' wrote")
    if (root / "cells").is_dir():
        return [root]
    return sorted(path.parent for path in root.glob("*/cells") if path.is_dir())
