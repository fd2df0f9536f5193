"""Where the run folders are that a user names."""

from pathlib import Path

from wash_bench.errors import UsageError


def run_folders(root: Path) -> list[Path]:
    """The run folders at ``root``: itself, or those that lie in it; a UsageError if it is none."""
    if not root.is_dir():
        raise UsageError(f"no folder {root}: give a folder that 'wash-bench run --out' wrote")
    if (root / "cells").is_dir():
        return [root]
    return sorted(path.parent for path in root.glob("*/cells") if path.is_dir())


def some_run_folders(root: Path) -> list[Path]:
    """The same; a UsageError if there is none, either."""
    if found := run_folders(root):
        return found
    raise UsageError(f"no run folder in {root}: give one that 'wash-bench run --out' wrote")
