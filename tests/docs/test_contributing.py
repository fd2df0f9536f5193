"""What CONTRIBUTING.md says that an addition touches is there, and is not much."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
ROWS = re.findall(r"^\| (an? .+?) \| (.+) \|$", TEXT, flags=re.MULTILINE)
ADDITIONS = (
    "a training rule", "a merge rule", "a metric", "a data set", "a setting", "an optimizer",
    "a figure", "a collective", "a stem", "a checkpoint field",
)  # fmt: skip


def test_every_addition_has_a_row() -> None:
    for addition in ADDITIONS:
        assert any(what.startswith(addition) for what, _ in ROWS), addition


@pytest.mark.parametrize(("what", "files"), ROWS)
def test_an_addition_touches_at_most_three_files(what: str, files: str) -> None:
    names = re.findall(r"`([\w./]+)`", files)
    assert len(names) <= 3 and (names or files == "the same")
    for name in names:
        if "NAME" not in name:
            assert (ROOT / "wash_bench" / name).exists() or (ROOT / name).exists(), name


def test_its_links_and_targets_are_there() -> None:
    for target in re.findall(r"\]\(([^)#][^)]*)\)", TEXT):
        assert (ROOT / target).exists(), target
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"`?make ([a-z-]+)", TEXT):
        assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE), target


def test_the_tree_is_that_of_the_contract() -> None:
    tree = TEXT.partition("## The tree")[2].split("```")[1]
    named = set(re.findall(r"\b([a-z]+)/", tree))
    folders = {path.parent.name for path in (ROOT / "wash_bench").glob("*/__init__.py")}
    assert named == folders
