"""Some damaged inputs; ``make fuzz`` tries ten thousand."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fuzz.attempts import inputs
from tests.fuzz.kinds import KINDS

pytestmark = pytest.mark.slow


@pytest.mark.fault(
    "Options and presets",
    "command lines, presets, method files, records and tables with random damage",
    "results or one line; never a traceback, a hang, or a file outside the folder",
)
def test_damaged_inputs_end_in_results_or_in_a_line(tmp_path: Path) -> None:
    found = list(inputs(80, 0, tmp_path))
    assert {kind for _, kind, _, _ in found} == set(KINDS)
    assert [each for each in found if each[3]] == []
