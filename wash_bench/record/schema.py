"""The version of what a run folder's files hold, and how files of an older version are read.

Cells, evaluations, states and event logs say ``schema``; docs/records.md describes them. A file
that does not say it is of version 1.

1. Only cells said their version.
2. A tally of exchanges has its ``sent_bytes``, and event logs the metric of that name.
"""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from wash_bench.errors import WashBenchError, printable
from wash_bench.files import read_json, write_json, written

SCHEMA = 2
CHECKSUM = "checksum"

Kind = Literal["cell", "evaluation", "state", "events"]
Record = dict[str, Any]


_KEYS: dict[Kind, dict[str, type | tuple[type, ...]]] = {
    "cell": {
        "cell_id": str,
        "training_id": str,
        "experiment_id": str,
        "method": str,
        "seed": int,
        "status": str,
        "config": dict,
    },
    "evaluation": {"parameters": int, "steps": int, "exchanges": dict},
    "state": {"epoch": int, "finished": bool, "folder": str, "notes": dict},
}
"""What no reader of a file can do without, and its type."""


def lacking(kind: Kind, data: Record) -> str | None:
    """What is missing in a file or of another type, in words; None if all is there."""
    for key, of in _KEYS.get(kind, {}).items():
        value = data.get(key)
        if not isinstance(value, of) or (isinstance(value, bool) and of is int):
            return f"{key!r} is missing or no {getattr(of, '__name__', of)}"
    if kind == "cell" and data["status"] == "finished" and not data.get("summary"):
        return "'summary' is missing"
    return None


def write_record(path: Path, data: Record) -> None:
    """Write a JSON file of this version, with a checksum of what it says."""
    write_summed(path, {"schema": SCHEMA} | data)


def write_summed(path: Path, data: Record) -> None:
    """Write a JSON file that has no version, with a checksum of what it says."""
    data = written(data)
    write_json(path, data | {CHECKSUM: _checksum(data)})


def read_summed(path: Path) -> Record:
    """What a JSON file says, its checksum taken off; ValueError if it is not as written."""
    data = read_json(path)
    if not isinstance(data, dict):
        raise ValueError(f"{path} holds no JSON object")
    return unchanged(data)


def unchanged(data: Record) -> Record:
    """Return what a file says, its checksum taken off, with control characters as escapes.

    Raises:
        Changed: the checksum is not of it.
    """
    told = {key: value for key, value in data.items() if key != CHECKSUM}
    if CHECKSUM in data and data[CHECKSUM] != _checksum(told):
        raise Changed("what it holds is not what was written (its checksum differs)")
    return _printable(told)


_EXACT = ("options", "set")  # which a command line gives again as they are; no terminal shows them


def _printable(data: Any) -> Any:
    if isinstance(data, dict):
        return {
            printable(key): value if key in _EXACT else _printable(value)
            for key, value in data.items()
        }
    if isinstance(data, list):
        return [_printable(value) for value in data]
    return printable(data) if isinstance(data, str) else data


def _checksum(data: Record) -> str:
    text = json.dumps(data, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


class Changed(ValueError):
    """A file's bytes changed after it was written, as disks and hands do."""


class UnknownSchema(WashBenchError):
    """A file is of a version that this wash-bench does not read, most likely of a newer one."""


def current(kind: Kind, data: Record) -> Record:
    """What a file holds under today's keys; UnknownSchema, or Changed, if nothing leads there."""
    version = data.get("schema", 1)
    if version not in range(1, SCHEMA + 1):
        raise UnknownSchema(
            f"schema {version!r}, this version of wash-bench reads 1 to {SCHEMA}: "
            "use the wash-bench that wrote it"
        )
    data = unchanged(data)
    for older in range(version, SCHEMA):
        data = _MIGRATIONS.get((kind, older), _as_it_is)(data)
    return data | {"schema": SCHEMA}


def read_record(kind: Kind, path: Path) -> Record | None:
    """Read a JSON file under today's keys.

    Returns:
        What it holds; None if it is not there, or broken.

    Raises:
        UnknownSchema: it is of a version that is not read here.
    """
    try:
        data = read_json(path)
    except (FileNotFoundError, ValueError):
        return None
    if not isinstance(data, dict):
        return None
    try:
        data = current(kind, data)
    except UnknownSchema as problem:
        raise UnknownSchema(f"{path}: {problem}") from None
    except (AttributeError, KeyError, TypeError, Changed):  # of another form than its version has
        return None
    return None if lacking(kind, data) else data


def _as_it_is(data: Record) -> Record:
    return data


def _with_sent_bytes(data: Record, key: str) -> Record:
    """Tallies under ``key``, if it is there, with their bytes: every value was a float32."""
    tallies = data.get(key, {}).items()
    told = {name: {"sent_bytes": 4 * tally["values"]} | tally for name, tally in tallies}
    return data | {key: told} if key in data else data


def _evaluation_from_1(data: Record) -> Record:
    return _with_sent_bytes(data, "exchanges")


def _cell_from_1(data: Record) -> Record:
    return data | {"summary": _with_sent_bytes(data.get("summary") or {}, "exchanges")}


def _state_from_1(data: Record) -> Record:
    return data | {"notes": _with_sent_bytes(data.get("notes") or {}, "ledger")}


_MIGRATIONS: dict[tuple[Kind, int], Callable[[Record], Record]] = {
    ("cell", 1): _cell_from_1,
    ("evaluation", 1): _evaluation_from_1,
    ("state", 1): _state_from_1,
}
"""By the kind of a file and the version that is left behind; nothing else changed."""
