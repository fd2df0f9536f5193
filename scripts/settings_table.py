"""The tables of docs/settings.md, from the fields of the configuration (for update_readme.py)."""

from __future__ import annotations

from wash_bench.config.field import PANELS, Option
from wash_bench.report.tables.markdown import escape, table
from wash_bench.study.options import OPTIONS
from wash_bench.study.validation_errors import allowed

IDENTITY = {"always": "yes", "later": "if not the default", "cell": "its own", "never": "no"}


def values(item: Option) -> str:
    """What a setting may be, in words."""
    if item.switch:
        return f"true or false (--no-{item.flag[2:]})"
    if item.field.annotation in (int, float) or item.choices:
        text = allowed(item.field).removeprefix("one of ")
        return f"{text}; {item.of('unit')}" if item.of("unit") else text
    return item.metavar


def row(item: Option) -> list[str]:
    identity = IDENTITY[item.of("identity")]
    if needed := item.of("needs"):
        identity += f", with {OPTIONS[needed].flag}"
    plain = map(escape, (item.default, values(item), identity, item.help))
    return [f"`{item.flag}`", *plain]


def tables() -> str:
    headings = ("option", "default", "values", "identity", "what it does")
    text = ""
    for panel in PANELS:
        rows = [row(item) for item in OPTIONS.values() if item.of("panel") == panel]
        text += f"\n### {panel}\n\n{table(headings, rows, 'lllll')}\n"
    return f"{text}\n"
