"""Identities of cells do not move: a finished run of an earlier version is found, not repeated."""

from __future__ import annotations

import json
from pathlib import Path

from tests.support.golden import pinned

CELLS = Path(__file__).parents[1] / "support" / "golden_cells.json"
PINNED = json.loads(CELLS.read_text(encoding="utf-8"))


def test_every_pinned_cell_keeps_its_identity() -> None:
    names = [name for name in PINNED["digits"] if "+" not in name]
    assert pinned(names) == PINNED
