"""docs/faults.md is of the markers ``fault``: each in its form, and on a test that runs."""

from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def scripts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "scripts")


@pytest.mark.usefixtures("scripts")
def test_every_section_has_faults_and_every_fault_a_row() -> None:
    from faults_table import SECTIONS, faults

    every = faults()
    assert {fault.section for fault in every} == set(SECTIONS)
    page = (ROOT / "docs/faults.md").read_text(encoding="utf-8")
    rows = [f"| {fault.happens} | {fault.seen} | " in page for fault in every]
    assert all(rows), "docs/faults.md is out of date: run make pages"
    assert page.count("(../tests/") == len(every)
    assert len({fault.happens for fault in every}) == len(every)


@pytest.mark.usefixtures("scripts")
@pytest.mark.parametrize(
    "marker", ['"Kills and stops", "a kill"', '"Elsewhere", "a kill", "a line"']
)
def test_a_marker_of_another_form_is_named(marker: str, tmp_path: Path) -> None:
    from faults_table import faults

    text = f"import pytest\n@pytest.mark.fault({marker})\ndef test_x(): pass\n"
    (tmp_path / "test_own.py").write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=r"test_own\.py: test_x"):
        faults(tmp_path)
