"""Read one file of a record; what is broken is told in a line and left out, never a crash."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import pandas as pd

from wash_bench.files import read_json, regular
from wash_bench.record.schema import Changed, UnknownSchema, current, unchanged
from wash_bench.report.read.columns import (
    BARRIER_FIELDS,
    CORRUPTION_FIELDS,
    EVENT_FIELDS,
    SIMPLEX_FIELDS,
)
from wash_bench.report.read.validate import read_cell

KINDS = {  # of an event's values
    "step": {int},
    "epoch": {int, float},
    "member": {int, type(None)},
    "metric": {str},
    "value": {int, float, type(None)},
}


class BrokenRecord(ValueError):
    """A file that is not what a record should be; the message says why."""


def json_object(path: Path) -> dict[str, Any]:
    """What a JSON file says, its checksum taken off; BrokenRecord if it is not as written."""
    try:
        return as_text(unchanged(_object(path)))
    except Changed as problem:
        raise BrokenRecord(str(problem)) from None


def _object(path: Path) -> dict[str, Any]:
    try:
        data = read_json(regular(path))
    except OSError as error:
        raise BrokenRecord(error.strerror or str(error)) from None
    except ValueError as error:
        raise BrokenRecord(f"not valid JSON ({error})") from None
    if not isinstance(data, dict):
        raise BrokenRecord("holds no JSON object")
    return data


def is_text(data: Any) -> bool:
    """Return whether all text in JSON data can be written: JSON may spell half a character."""
    try:
        json.dumps(data, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True


def as_text(data: Any) -> Any:
    """Return JSON data with half characters, as of a path that is not UTF-8, as escapes."""
    if isinstance(data, str):
        return data.encode("utf-8", "backslashreplace").decode()
    if isinstance(data, dict):
        return {as_text(key): as_text(value) for key, value in data.items()}
    return [as_text(value) for value in data] if isinstance(data, list) else data


def cell(path: Path) -> dict[str, Any]:
    """Return a cell's record; BrokenRecord if it is not one that a report can show."""
    data = _object(path)
    try:
        data = current("cell", data)
        if not is_text({key: value for key, value in data.items() if key != "config"}):
            raise BrokenRecord("holds text that is no Unicode")  # but for the paths of settings
        return read_cell(as_text(data))
    except (UnknownSchema, ValueError) as problem:
        raise BrokenRecord(str(problem)) from None
    except (AttributeError, KeyError, TypeError):
        raise BrokenRecord("not of the form of its version") from None


def digests(training: Path, evaluations: Sequence[str]) -> dict[str, str]:
    """SHA-256 of a training's log and points by file name, as far as its records say."""
    found: dict[str, str] = {}
    for name in ("status.json", *(f"evaluation-{key}.json" for key in evaluations)):
        try:
            sums = json_object(training / name).get("sha256")
        except BrokenRecord:
            continue
        found |= sums if isinstance(sums, dict) else {}
    return found


def events(path: Path) -> tuple[pd.DataFrame, list[str]]:
    """The events of one training, and what was wrong with the file."""
    try:
        lines = regular(path).read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError as error:
        return _frame([], EVENT_FIELDS), [f"{path}: {error.strerror}, left out"]
    frame, warnings = _whole(lines), []
    if frame is None:  # something is wrong, or of an older form: line by line it is found
        try:
            frame, broken = _by_line(lines)
        except UnknownSchema as problem:
            return _frame([], EVENT_FIELDS), [f"{path}: {problem}, left out"]
        if broken:
            visible = ", ".join(map(str, broken[:5])) + (", ..." if len(broken) > 5 else "")
            warnings.append(f"{path}: broken at line {visible}, left out")
    frame["member"] = pd.to_numeric(frame["member"], errors="coerce").astype("Int64")
    # A training that was killed may have been resumed from an earlier checkpoint: of two events
    # with the same step, member and metric the later line counts.
    frame = frame.drop_duplicates(["step", "member", "metric"], keep="last")
    return frame.sort_values("step", kind="stable", ignore_index=True), warnings


def _whole(lines: Sequence[str]) -> pd.DataFrame | None:
    """The events of a log whose lines are all as they should be, read at once; else None."""
    text = f"[{','.join(lines)}]"
    if "\\u" in text:  # only an escape can spell half a character, and few names have one
        return None
    try:
        first, *rest = json.loads(text)
        if "schema" not in first or not rest or len(rest) + 1 != len(lines):
            return None
        current("events", first)
        columns = {name: [event[name] for event in rest] for name in EVENT_FIELDS}
        if any(set(map(type, columns[name])) - KINDS[name] for name in EVENT_FIELDS):
            return None
        if not all(map(_is_member, set(columns["member"]))):
            return None
        numbers = {name: pd.Series(columns[name], dtype="float64") for name in ("epoch", "value")}
    except (UnknownSchema, ValueError, KeyError, TypeError, AttributeError, OverflowError):
        return None
    return pd.DataFrame(columns | numbers)


def _by_line(lines: Sequence[str]) -> tuple[pd.DataFrame, list[int]]:
    """The events of a log, and the numbers of its broken lines; UnknownSchema as it says."""
    rows, broken = [], []
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
        except UnknownSchema:
            raise
        except (ValueError, KeyError, TypeError, OverflowError):
            broken.append(number)
    return _frame(rows, EVENT_FIELDS), broken


def _is_member(given: Any) -> bool:
    """Whether an event's member is one: an index, or None for the whole population."""
    return given is None or (type(given) is int and 0 <= given < 2**31)


def barrier(path: Path) -> tuple[pd.DataFrame, list[str]]:
    """The barrier table of one training, and what was wrong with the file."""
    return _points(path, BARRIER_FIELDS, ("alpha",), ("kind", "bn"))


def simplex(path: Path) -> tuple[pd.DataFrame, list[str]]:
    """The simplex map of one training, and what was wrong with the file."""
    return _points(path, SIMPLEX_FIELDS, ("weight_a", "weight_b", "weight_c"), ("c", "bn"))


def outcomes(path: Path, network: str) -> tuple[np.ndarray | None, list[str]]:
    """Accuracy (%) and NLL of a network at each test image, (images, 2), and what was wrong."""
    try:
        with np.load(regular(path)) as arrays:
            if f"{network}_correct" not in arrays:
                return None, []
            nll = -arrays[f"{network}_log_prob"].astype(np.float32)
            images = int(arrays["images"])
            correct = np.unpackbits(arrays[f"{network}_correct"], count=images)
            return np.stack([100 * correct.astype(np.float32), nll], axis=1), []
    except (OSError, ValueError, KeyError, TypeError, EOFError, BadZipFile) as error:
        reason = " ".join(str(error).split())
        return None, [f"{path}: no outcomes that can be read ({reason}), left out"]


def corruption(path: Path) -> tuple[pd.DataFrame, list[str]]:
    """What one training kept on corrupted images, and what was wrong with the file."""
    return _points(path, CORRUPTION_FIELDS, ("severity",), ("corruption", "network"))


def _points(
    path: Path, fields: tuple[str, ...], places: tuple[str, ...], names: tuple[str, ...]
) -> tuple[pd.DataFrame, list[str]]:
    """A table of measured networks: ``places`` (numbers) and ``names`` say which they are."""
    try:
        text = {"a": str, "b": str, "c": str, "corruption": str, "network": str}
        frame = pd.read_csv(
            regular(path), dtype=text, on_bad_lines="skip", keep_default_na=False, na_values=[""]
        )
    except OSError as error:
        return _frame([], fields), [f"{path}: {error.strerror}, left out"]
    except (ValueError, pd.errors.ParserError) as error:
        return _frame([], fields), [f"{path}: not a table ({error}), left out"]
    missing = [name for name in fields if name not in frame]
    if missing:
        return _frame([], fields), [f"{path}: has no column {', '.join(missing)}, left out"]
    frame = frame[list(fields)]
    for name in (*places, "images", "loss", "accuracy"):
        if frame[name].dtype.kind not in "if":
            frame = frame.assign(**{name: pd.to_numeric(frame[name], errors="coerce")})
    # A diverged network has no finite loss: that is a result. A row without a place is not.
    whole = frame[[*places, *names]].notna().to_numpy().all(axis=1)
    if whole.all():
        return frame, []
    problem = f"{path}: {int((~whole).sum())} broken rows, left out"
    return frame.take(np.flatnonzero(whole)).reset_index(drop=True), [problem]


def _frame(rows: list[tuple], columns: tuple[str, ...]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=list(columns))
