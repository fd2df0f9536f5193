"""Pydantic's findings as one line each: the option, the value, the range."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from wash_bench.errors import nearest

if TYPE_CHECKING:
    from pydantic import BaseModel, ValidationError
    from pydantic.fields import FieldInfo

_KINDS = {"int": "a whole number", "float": "a number", "bool": "true or false", "str": "a text"}


def first_error(error: ValidationError, model: type[BaseModel]) -> tuple[str, Any, str]:
    """The first finding of a validation.

    Args:
        error: what pydantic raised.
        model: the model that was validated, to look up the field's range.

    Returns:
        The last field name on the way to the value (empty if it concerns no single field), the
        value, and what it must be.
    """
    finding = error.errors(include_url=False)[0]
    names = [part for part in finding["loc"] if isinstance(part, str)]
    field = _field(model, names)
    value = finding["input"]
    if finding["type"] == "value_error":
        if field is None:
            return "", value, str(finding["ctx"]["error"])
        return names[-1], value, str(finding["ctx"]["error"])
    if finding["type"] == "literal_error" and field is not None:
        choices = [str(choice) for choice in field.annotation.__args__]  # type: ignore[union-attr]
        text = f"must be one of {', '.join(choices)}"
        hint = nearest(str(value), choices)
        return names[-1], value, text + (f" ({hint})" if hint.startswith("did") else "")
    if field is None:
        return names[-1] if names else "", value, finding["msg"]
    return names[-1], value, "must be " + range_text(field)


def range_text(field: FieldInfo) -> str:
    """What a field accepts, as ``a whole number, at least 1``."""
    annotation = getattr(field.annotation, "__name__", str(field.annotation))
    limits = limits_of(field)
    kind = _KINDS.get(annotation.removesuffix(" | None"), annotation)
    return ", ".join([kind, *([limits] if limits else [])])


def limits_of(field: FieldInfo) -> str:
    """The bounds of a numeric field in words, or an empty text."""
    bounds: dict[str, Any] = {}
    for item in field.metadata:
        for name in ("ge", "gt", "le", "lt"):
            if getattr(item, name, None) is not None:
                bounds[name] = getattr(item, name)
    return _words(bounds)


def _words(bounds: Mapping[str, Any]) -> str:
    if "ge" in bounds and "le" in bounds:
        return f"between {bounds['ge']} and {bounds['le']}"
    words = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below"}
    return " and ".join(f"{words[name]} {bound}" for name, bound in bounds.items())


def _field(model: type[BaseModel], names: list[str]) -> FieldInfo | None:
    """The innermost field that a location names; None if it names none."""
    field: FieldInfo | None = None
    current: Any = model
    for name in names:
        fields = getattr(current, "model_fields", None)
        if fields is None or name not in fields:
            break  # inside a dictionary or a tuple: its own field is the last one met
        field = fields[name]
        current = field.annotation
    if getattr(current, "model_fields", None) is not None:
        return None
    return field
