"""What a cell's record must be like for a report to show it: types, and values that can be."""

from collections.abc import Iterator
from typing import Any

from pydantic import ValidationError

from wash_bench.config import EvaluationConfig, TrainingConfig
from wash_bench.metrics import METRICS
from wash_bench.report.read.columns import IDENTITY, LATER_SETTINGS, PROVENANCE, SETTINGS

_TAKEN = frozenset((*IDENTITY, *PROVENANCE, *SETTINGS, *LATER_SETTINGS))
_PARTS = {"options": dict, "summary": dict, "reason": str, "evaluation_id": str}


def complaint(cell: dict[str, Any]) -> str | None:
    """The first thing that cannot be of a record with all its parts, by its key; None if none."""
    return next(_complaints(cell), None)


def _complaints(cell: dict[str, Any]) -> Iterator[str]:
    for key, kind in _PARTS.items():
        if not isinstance(cell.get(key), kind | None):
            yield f"{key!r} is no {kind.__name__}"
    if not isinstance(cell["config"].get("coupling", {}), dict):
        yield "'config.coupling' is no object"
    for section, model in (("training", TrainingConfig), ("evaluation", EvaluationConfig)):
        given = cell["config"][section]
        try:
            # What later versions added to the settings is not judged here.
            model.model_validate({key: given[key] for key in model.model_fields if key in given})
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"]))
            yield f"'config.{section}.{where}': {first['msg']}"
    summary = cell.get("summary")
    for key, value in summary.items() if isinstance(summary, dict) else ():
        if problem := _of_metric(key, value):
            yield f"'summary.{key}' {problem}"


def _of_metric(key: str, value: Any) -> str | None:
    if key in _TAKEN:
        return "is no metric"
    named = "predictor_NAME_acc" if key.startswith("predictor_") else key
    metric = METRICS.get(named)
    if metric is None or value is None or metric.unit == "text":
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not _float(value):
        return f"is {str(value)[:40]!r}, which is no number"
    if metric.unit == "%" and (value < -1e-6 or value > 100 + 1e-6):
        return f"is {value:g} %"
    return None


def _float(value: int | float) -> bool:
    """Whether a number is one of double precision; a diverged network has infinite ones, or NaN."""
    try:
        float(value)
    except OverflowError:
        return False
    return True


def is_text(data: Any) -> bool:
    """Whether all text in JSON data can be written: JSON may spell half a character."""
    return not any(_no_text(text) for text in _texts(data))


def _texts(data: Any) -> Iterator[str]:
    if isinstance(data, str):
        yield data
    elif isinstance(data, dict):
        for key, value in data.items():
            yield str(key)
            yield from _texts(value)
    elif isinstance(data, list):
        for value in data:
            yield from _texts(value)


def _no_text(text: str) -> bool:
    return any("\ud800" <= character <= "\udfff" for character in text)
