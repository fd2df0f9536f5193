"""The machines of a table: on what its trainings ran, and whether all ran on the same."""

from __future__ import annotations

from typing import TYPE_CHECKING

from wash_bench.record.environment import THEN

if TYPE_CHECKING:
    import pandas as pd

# What should be the same in all environments of one table, and the name in the sentence.
COMPARED = {
    "wash_bench": "wash-bench",
    "python": "Python",
    "torch": "torch",
    "torchvision": "torchvision",
    "timm": "timm",
    "numpy": "NumPy",
    "platform": "platform",
    "cpu": "CPU",
    "cpu_cores": "CPU cores",
    "threads": "threads",
    "jobs": "jobs side by side",
    "device": "device",
    "commit": "commit",
}


def environment_warning(rows: pd.DataFrame) -> str:
    """A sentence that names, after its colon, how machines or versions differ, if they do."""
    parts = []
    for key, name in COMPARED.items():
        if len(values := _values(rows, key)) > 1:
            parts.append(f"{name} {' and '.join(values)}")
    if not parts:
        return ""
    return f"Mixed environments in this table, so the numbers may not compare: {'; '.join(parts)}."


def machine(rows: pd.DataFrame, aside: str = "") -> str:
    """A sentence of machine, device and versions; ``aside`` is added if any ran side by side."""
    if rows.empty:
        return ""

    def of(key: str) -> str:
        return " and ".join(_values(rows, key))

    text = of("cpu") + (f", {of('cpu_cores')} cores" if of("cpu_cores") else "")
    if of("threads"):
        text += f", {of('threads')} thread{'' if of('threads') == '1' else 's'} a process"
    if of("jobs") not in ("", "1"):
        text += f", {of('jobs')} trainings side by side{aside}"
    if of("device") not in ("", "cpu"):
        text += f", {of('device')}"
    versions = [f"{COMPARED[key]} {of(key)}" for key in ("torch", "timm", "wash_bench") if of(key)]
    text = "; ".join(part for part in (text.strip(", "), ", ".join(versions)) if part)
    return f"Machine: {text}." if text else ""


def _values(rows: pd.DataFrame, key: str) -> list[str]:
    """The values of a column, each once; of a training that went on elsewhere, all of its own."""
    known = rows[key].dropna().astype(str) if key in rows else ()
    return sorted({value for text in known for value in text.split(THEN)})
