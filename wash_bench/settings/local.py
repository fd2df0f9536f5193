"""The options that say how a run is carried out and do not change what it finds."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from wash_bench.errors import UsageError

LOCAL = {
    "out": "runs",
    "jobs": 1,
    "procs": 1,
    "threads": 0,
    "worker": False,
    "stale": 120,
    "shard": "1/1",
    "download": False,
    "retry_failed": False,
    "report": True,
}
"""Options that say how a run is carried out and do not change what it finds, with defaults."""


def local_options(values: Mapping[str, Any], label: Callable[[str, Any], str]) -> dict[str, Any]:
    """The options that do not change what a run finds, checked and in their own types.

    Args:
        values: what is given, by key.
        label: how an error line names a key with its value.

    Raises:
        UsageError: a value is of the wrong type, out of range, or does not go with another.
    """
    local = LOCAL | {key: values[key] for key in LOCAL if key in values}
    for key, least in (("jobs", 1), ("procs", 1), ("threads", 0), ("stale", 10)):
        text = str(local[key])
        if not (text.isascii() and text.isdigit() and int(text) >= least):
            raise UsageError(f"{label(key, text)}: must be a whole number, at least {least}")
        local[key] = int(text)
    for key in ("worker", "download", "retry_failed", "report"):
        if type(local[key]) is not bool:
            raise UsageError(f"{label(key, local[key])}: must be true or false")
    if not isinstance(local["out"], str | Path):
        raise UsageError(f"{label('out', local['out'])}: must be a text")
    local["shard"] = _shard(str(local["shard"]), label)
    _check_together(local)
    return local | {"out": Path(local["out"]).expanduser()}


def _shard(text: str, label: Callable[[str, Any], str]) -> tuple[int, int]:
    found = re.fullmatch(r"(\d{1,9})/(\d{1,9})", text, re.ASCII)
    index, shards = map(int, found.groups()) if found else (0, 0)
    if not 1 <= index <= shards:
        raise UsageError(
            f"{label('shard', text)}: write it as i/k with i from 1 to k, as 1/3, 2/3 and 3/3"
        )
    return index, shards


def _check_together(local: Mapping[str, Any]) -> None:
    if not local["worker"]:
        return
    if local["shard"][1] > 1:
        raise UsageError("--shard and --worker both divide the trainings: give one of them")
    for key in ("jobs", "procs"):
        if local[key] > 1:
            raise UsageError(
                f"--worker takes one training at a time, in one process: leave --{key} out, "
                "and start more workers"
            )
