"""The model of a cell's record: types, and values that can be."""

from __future__ import annotations

import json
import sys
from functools import lru_cache
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic import field_validator as check_field

from wash_bench.config import EvaluationConfig, TrainingConfig
from wash_bench.metrics import METRICS
from wash_bench.report.read.columns import (
    IDENTITY,
    LATER_SETTING_COLUMNS,
    PROVENANCE,
    SETTING_COLUMNS,
)

_TAKEN = frozenset((*IDENTITY, *PROVENANCE, *SETTING_COLUMNS, *LATER_SETTING_COLUMNS))
_NUMBERS = ("population", "epochs", "batch_size", "lr", "train_limit", "image_size")
_Object = Annotated[dict[str, Any], BeforeValidator(lambda given: {} if given is None else given)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="allow", strict=True)


class _CellConfig(_Part):
    """The configuration; both sections are checked by their own models, without later settings."""

    training: dict[str, Any]
    evaluation: dict[str, Any]
    coupling: dict[str, Any] = Field(default_factory=dict)

    @check_field("training")
    @classmethod
    def _complete(cls, training: dict[str, Any]) -> dict[str, Any]:
        missing = [
            key for key in ("dataset", "model", *_NUMBERS, *SETTING_COLUMNS) if key not in training
        ]
        missing += [key for key in _NUMBERS if not isinstance(training.get(key), int | float)]
        if missing:
            raise ValueError(f"lacks {', '.join(dict.fromkeys(missing))}")
        return _checked(TrainingConfig, training)

    @check_field("evaluation")
    @classmethod
    def _known(cls, evaluation: dict[str, Any]) -> dict[str, Any]:
        return _checked(EvaluationConfig, evaluation)


class CellRecord(_Part):
    """What a report needs of a cell's record."""

    cell_id: str
    training_id: str
    experiment_id: str
    method: str
    seed: int
    status: Literal["finished", "failed"]
    config: _CellConfig
    reason: str | None = None
    evaluation_id: str | None = None
    options: _Object = Field(default_factory=dict)
    summary: _Object = Field(default_factory=dict, validate_default=True)

    @check_field("summary")
    @classmethod
    def _of_metrics(cls, summary: dict[str, Any], info: Any) -> dict[str, Any]:
        if not summary and info.data.get("status") == "finished":
            raise ValueError("is missing")
        for key, value in summary.items():
            if problem := _of_metric(key, value):
                raise ValueError(f"'summary.{key}' {problem}")
        return summary


def read_cell(data: dict[str, Any]) -> dict[str, Any]:
    """Return a cell's record, options and summary present; a ValueError with the first problem."""
    try:
        cell = CellRecord.model_validate(data)
    except ValidationError as error:
        raise ValueError(_first(error)) from None
    return data | {"options": cell.options, "summary": cell.summary}


def _first(error: ValidationError, prefix: str = "") -> str:
    """Write the first problem in a line that begins with its key."""
    first = error.errors(include_url=False, include_context=False)[0]
    where = ".".join([prefix, *map(str, first["loc"])]).strip(".")
    if first["type"] == "missing":
        return f"'{where}' is missing"
    if first["type"] != "value_error":
        return f"'{where}': {first['msg']}"
    text = first["msg"].removeprefix("Value error, ")
    return text if text.startswith("'") else f"'{where}' {text}"


def _checked(model: type[BaseModel], section: dict[str, Any]) -> dict[str, Any]:
    known = {key: value for key, value in section.items() if key in model.model_fields}
    if problem := _problem(model, json.dumps(known, sort_keys=True)):
        raise ValueError(problem)
    return section


@lru_cache(maxsize=256)
def _problem(model: type[BaseModel], text: str) -> str:
    """Validate a section of the configuration; cells of one experiment share it."""
    try:
        model.model_validate(json.loads(text))
    except ValidationError as error:
        name = "training" if model is TrainingConfig else "evaluation"
        return _first(error, f"config.{name}")
    return ""


def _of_metric(key: str, value: Any) -> str | None:
    if key in _TAKEN:
        return "is no metric"
    metric = METRICS.get("predictor_NAME_acc" if key.startswith("predictor_") else key)
    if metric is None or value is None or metric.unit == "text":
        return None
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or (isinstance(value, int) and abs(value) > sys.float_info.max):
        return f"is {str(value)[:40]!r}, which is no number"
    if metric.unit == "%" and (value < -1e-6 or value > 100 + 1e-6):
        return f"is {value:g} %"
    return None
