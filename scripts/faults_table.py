"""What the tests try to break, as tables: what happens, what the user sees, which test.

They are read off the tests' ``@pytest.mark.fault(section, what happens, what the user sees)``,
without importing them; ``update_readme.py`` puts the tables into docs/faults.md.
"""

from __future__ import annotations

import ast
from pathlib import Path
from typing import NamedTuple

from wash_bench.report.tables import markdown

TESTS = Path(__file__).parents[1] / "tests"
SECTIONS = (
    "Kills and stops",
    "Damaged run folders",
    "The machine",
    "Numbers and methods",
    "Images and data sets",
    "Checkpoints and code",
    "Options and presets",
    "Records and reports",
    "Names and texts",
)


class Fault(NamedTuple):
    """One fault that a test tries."""

    section: str
    happens: str
    seen: str
    file: str
    test: str


def faults(folder: Path = TESTS) -> list[Fault]:
    """The faults of all tests, by file and place.

    Raises:
        ValueError: a marker has another form, or a section that there is not.
    """
    found = []
    for path in sorted(folder.rglob("test_*.py"), key=lambda path: path.name):
        file = path.relative_to(folder).as_posix()
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if not isinstance(node, ast.FunctionDef):
                continue
            for call in node.decorator_list:
                if not isinstance(call, ast.Call) or ast.unparse(call.func) != "pytest.mark.fault":
                    continue
                values = [ast.literal_eval(value) for value in call.args]
                if len(values) != 3 or values[0] not in SECTIONS:
                    raise ValueError(f"{path.name}: {node.name}: not (section, happens, seen)")
                found.append(Fault(*values, file=file, test=node.name))
    return found


def tables() -> str:
    """A table a section, in Markdown."""
    parts = []
    every = faults()
    for section in SECTIONS:
        rows = [
            (
                fault.happens,
                fault.seen,
                f"[{Path(fault.file).stem}](../tests/{fault.file})",
            )
            for fault in every
            if fault.section == section
        ]
        head = ("what happens", "what the user sees", "test")
        parts += [f"## {section}", "", markdown.table(head, rows, "lll"), ""]
    return "\n".join(parts)
