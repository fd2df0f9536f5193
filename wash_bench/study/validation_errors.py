"""Pydantic's findings as one line each: the option, the value, the range."""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from wash_bench.config.field import choices_of
from wash_bench.errors import UsageError, nearest
from wash_bench.plugins.options import bounds_of

_KINDS = {"int": "a whole number", "float": "a number", "bool": "true or false"}
_KINDS |= {"str": "a text", "Path": "a text"}
_Model = TypeVar("_Model", bound=BaseModel)


def checked(
    model: type[_Model], data: Mapping[str, Any], label: Callable[[str, Any], str]
) -> _Model:
    """A model of values by field, or a UsageError with pydantic's complaint in words."""
    try:
        return model.model_validate(data)
    except ValidationError as error:
        finding = error.errors(include_url=False)[0]
    names = [part for part in finding["loc"] if isinstance(part, str)]
    field = _field(model, names)
    told = finding.get("ctx", {}).get("error")  # a validator's own words
    if field is None and told:
        raise UsageError(f"{told}: change one of the two")
    value = finding["input"]
    if field is not None and not told:
        told = f"must be {allowed(field)}"
        hint = nearest(str(value), choices_of(field))
        told += f" ({hint})" if hint.startswith("did") else ""
    raise UsageError(f"{label(names[-1], value)}: {told or finding['msg']}")


def allowed(field: FieldInfo) -> str:
    """What a field accepts, as ``a whole number, at least 1``."""
    if choices := choices_of(field):
        return f"one of {', '.join(choices)}"
    annotation = getattr(field.annotation, "__name__", str(field.annotation))
    kind = _KINDS.get(annotation.removesuffix(" | None"), annotation)
    limits = _limits(field)
    return f"{kind}, {limits}" if limits else kind


def _limits(field: FieldInfo) -> str:
    """The bounds of a numeric field in words, or an empty text."""
    bounds = bounds_of(field)
    if bounds.keys() == {"ge", "le"}:
        return f"between {bounds['ge']} and {bounds['le']}"
    words = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below"}
    return " and ".join(f"{words[name]} {bound}" for name, bound in bounds.items())


def _field(model: type[BaseModel], names: list[str]) -> FieldInfo | None:
    """The innermost field that a location names; None if it names none."""
    field: FieldInfo | None = None
    current: Any = model
    for name in names:
        fields: dict[str, FieldInfo] = getattr(current, "model_fields", {})
        if name not in fields:
            break  # inside a dictionary or a tuple: its own field is the last one met
        field = fields[name]
        current = field.annotation
    return None if hasattr(current, "model_fields") else field
