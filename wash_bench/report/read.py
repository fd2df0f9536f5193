"""Read one file of a record; what is broken is told in a line and left out, never a crash."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from wash_bench.record.files import regular
from wash_bench.record.schema import Changed, UnknownSchema, current, lacking, unchanged
from wash_bench.report.columns import (
    BARRIER_FIELDS,
    CORRUPTION_FIELDS,
    EVENT_FIELDS,
    SETTINGS,
    SIMPLEX_FIELDS,
)
from wash_bench.report.door import complaint, is_text

NUMBERS = ("population", "epochs", "batch_size", "lr", "train_limit", "image_size")
STATUSES = ("finished", "failed")


class BrokenRecord(ValueError):
    """A file that is not what a record should be; the message says why."""


def json_object(path: Path) -> dict[str, Any]:
    """What a JSON file says, its checksum taken off; BrokenRecord if it is not as written."""
    try:
        return unchanged(_object(path))
    except Changed as problem:
        raise BrokenRecord(str(problem)) from None


def _object(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(regular(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise BrokenRecord(error.strerror or str(error)) from None
    except ValueError as error:
        raise BrokenRecord(f"not valid JSON ({error})") from None
    if not isinstance(data, dict):
        raise BrokenRecord("holds no JSON object")
    if not is_text(data):
        raise BrokenRecord("holds text that is no Unicode")
    return data


def cell(path: Path) -> dict[str, Any]:
    """A cell's record; BrokenRecord if it lacks a part that a report cannot do without."""
    data = _object(path)
    try:
        data = current("cell", data)
    except (UnknownSchema, Changed) as problem:
        raise BrokenRecord(str(problem)) from None
    except (AttributeError, KeyError, TypeError):
        raise BrokenRecord("not of the form of its version") from None
    if problem := lacking("cell", data):
        raise BrokenRecord(problem)
    if data["status"] not in STATUSES:
        raise BrokenRecord(f"status {data.get('status')!r} is none of {', '.join(STATUSES)}")
    for key in ("training", "evaluation"):
        if not isinstance(data["config"].get(key), dict):
            raise BrokenRecord(f"'config.{key}' is missing")
    training = data["config"]["training"]
    absent = [key for key in ("dataset", "model", "population", *SETTINGS) if key not in training]
    absent += [key for key in NUMBERS if not isinstance(training.get(key), int | float)]
    if absent:
        raise BrokenRecord(f"'config.training' lacks {', '.join(dict.fromkeys(absent))}")
    if problem := complaint(data):
        raise BrokenRecord(problem)
    return data | {key: data.get(key) or {} for key in ("summary", "options")}


def digests(training: Path, evaluations: Sequence[str]) -> dict[str, str]:
    """SHA-256 of a training's log and points by file name, as far as its records say."""
    found: dict[str, str] = {}
    for name in ("status.json", *(f"evaluation-{key}.json" for key in evaluations)):
        try:
            told = json_object(training / name).get("sha256")
        except BrokenRecord:
            continue
        found |= told if isinstance(told, dict) else {}
    return found


def events(path: Path) -> tuple[pd.DataFrame, list[str]]:
    """The events of one training, and what was wrong with the file."""
    rows, warnings, broken = [], [], []
    try:
        lines = regular(path).read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError as error:
        return _frame([], EVENT_FIELDS), [f"{path}: {error.strerror}, left out"]
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            event = json.loads(line)
            if number == 1 and "schema" in event:
                current("events", event)
                continue
            value = event["value"]
            half = "\\u" in line and not is_text(event)  # only an escape can spell half a character
            if half or not _is_member(event.get("member")):
                raise ValueError
            rows.append(
                (
                    int(event["step"]),
                    float(event["epoch"]),
                    event.get("member"),
                    str(event["metric"]),
                    float("nan") if value is None else float(value),
                )
            )
        except UnknownSchema as problem:
            return _frame([], EVENT_FIELDS), [f"{path}: {problem}, left out"]
        except (ValueError, KeyError, TypeError):
            broken.append(number)
    if broken:
        shown = ", ".join(map(str, broken[:5])) + (", ..." if len(broken) > 5 else "")
        warnings.append(f"{path}: broken at line {shown}, left out")
    frame = _frame(rows, EVENT_FIELDS)
    frame["member"] = pd.to_numeric(frame["member"], errors="coerce").astype("Int64")
    # A training that was killed may have been resumed from an earlier checkpoint: of two events
    # with the same step, member and metric the later line counts.
    frame = frame.drop_duplicates(["step", "member", "metric"], keep="last")
    return frame.sort_values("step", kind="stable", ignore_index=True), warnings


def _is_member(given: Any) -> bool:
    """Whether an event's member is one: an index, or None for the whole population."""
    return given is None or (type(given) is int and 0 <= given < 2**31)


def barrier(path: Path) -> tuple[pd.DataFrame, list[str]]:
    """The barrier table of one training, and what was wrong with the file."""
    return _points(path, BARRIER_FIELDS, ("alpha",), ("kind", "bn"))


def simplex(path: Path) -> tuple[pd.DataFrame, list[str]]:
    """The simplex map of one training, and what was wrong with the file."""
    return _points(path, SIMPLEX_FIELDS, ("weight_a", "weight_b", "weight_c"), ("c", "bn"))


def corruption(path: Path) -> tuple[pd.DataFrame, list[str]]:
    """What one training kept on corrupted images, and what was wrong with the file."""
    return _points(path, CORRUPTION_FIELDS, ("severity",), ("corruption", "network"))


def _points(
    path: Path, fields: tuple[str, ...], places: tuple[str, ...], names: tuple[str, ...]
) -> tuple[pd.DataFrame, list[str]]:
    """A table of measured networks: ``places`` (numbers) and ``names`` say which they are."""
    empty = _frame([], fields)
    try:
        text = {"a": str, "b": str, "c": str, "corruption": str, "network": str}
        frame = pd.read_csv(regular(path), dtype=text, on_bad_lines="skip")
    except OSError as error:
        return empty, [f"{path}: {error.strerror}, left out"]
    except (ValueError, pd.errors.ParserError) as error:
        return empty, [f"{path}: not a table ({error}), left out"]
    missing = [name for name in fields if name not in frame]
    if missing:
        return empty, [f"{path}: has no column {', '.join(missing)}, left out"]
    for name in (*places, "images", "loss", "accuracy"):
        frame[name] = pd.to_numeric(frame[name], errors="coerce")
    # A diverged network has no finite loss: that is a result. A row without a place is not.
    whole = frame[[*places, *names]].notna().all(axis=1)
    warnings = []
    if not whole.all():
        warnings.append(f"{path}: {int((~whole).sum())} broken rows, left out")
    return frame.loc[whole, list(fields)].reset_index(drop=True), warnings


def _frame(rows: list[tuple], columns: tuple[str, ...]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=list(columns))
