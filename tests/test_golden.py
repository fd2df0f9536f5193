"""Identities of cells do not move: a finished run of an earlier version is found, not repeated."""

from __future__ import annotations

import json
from pathlib import Path

from tests.golden import pinned

PINNED = json.loads(Path(__file__).with_name("golden_cells.json").read_text(encoding="utf-8"))


def test_every_pinned_cell_keeps_its_identity() -> None:
    names = [name for name in PINNED["digits"] if "+" not in name]
    assert pinned(names) == PINNED
