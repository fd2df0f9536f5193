"""Options of methods: read from the command line and checked.

Imports neither torch nor any method, and pydantic only where something is checked.
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from wash_bench.errors import UsageError, nearest
from wash_bench.plugins.words import allowed, takes

if TYPE_CHECKING:
    from pydantic import ValidationError
    from pydantic.fields import FieldInfo

    from wash_bench.core.method import Method


def parse_value(text: str) -> object:
    """A value as TOML writes it, else the text; a UsageError if empty, or a list left open."""
    text = text.strip()
    if not text:
        raise UsageError("the value is empty")
    try:
        table = tomllib.loads(f"value = {text}")
    except tomllib.TOMLDecodeError:
        if text[0] in "[{\"'":
            raise UsageError(
                f"{text} cannot be read; write lists as [1, 2] or ['a', 'b']"
            ) from None
        return text
    value = table["value"]
    if len(table) > 1 or not isinstance(value, (bool, int, float, str, list, dict)):
        return text  # several lines, or a date: nobody's option
    return value


def as_typed(value: object) -> str:
    """A value as ``--set`` takes it."""
    if isinstance(value, list | tuple):
        return ",".join(map(as_typed, value))
    return {True: "true", False: "false"}[value] if isinstance(value, bool) else str(value)


def parse_set(items: Iterable[str]) -> dict[str, dict[str, object]]:
    """``{"wash": {"p": 0.05}}`` of ``["wash.p=0.05"]``; a UsageError if malformed or twice."""
    result: dict[str, dict[str, object]] = {}
    for item in items:
        key, equals, text = item.partition("=")
        method, dot, name = key.strip().partition(".")
        if not (equals and dot and method and name):
            raise UsageError(f"--set {item}: write method.option=value, as --set wash.p=0.05")
        try:
            value = parse_value(text)
        except UsageError as error:
            raise UsageError(f"--set {item}: {error}") from None
        if name in result.setdefault(method, {}):
            raise UsageError(f"--set {key.strip()} is given twice: write all values after one =")
        result[method][name] = value
    return result


def make(
    name: str, cls: type[Method], options: Mapping[str, Any], inner: Method | None = None
) -> Method:
    """A method, around ``inner`` if given; a UsageError names all options that are not allowed."""
    from pydantic import ValidationError

    fields = cls.Options.model_fields
    for key in options:
        if key not in fields:
            hint = nearest(key, fields) if fields else "it has no options"
            raise UsageError(f"method {name!r} has no option {key!r}: {hint}")
    # pydantic takes true for 1 and lets not-a-number pass where there is no limit.
    wrong = [
        f"{name}.{key}={_shown(value)} is not allowed ({allowed(fields[key])})"
        for key, value in options.items()
        if (isinstance(value, bool) and not takes(fields[key], bool))
        or (isinstance(value, float) and math.isnan(value))
    ]
    if wrong:
        raise UsageError("; ".join(wrong))
    try:
        checked = cls.Options(**options)
    except ValidationError as error:
        raise UsageError(_in_words(name, error, fields)) from None
    try:
        return cls(checked) if inner is None else cls(checked, inner)  # type: ignore[call-arg]
    except (TypeError, ValueError) as error:
        text = " ".join(str(error).split())
        raise UsageError(f"method {name!r} does not take its options: {text}") from error


def _in_words(name: str, error: ValidationError, fields: dict[str, FieldInfo]) -> str:
    parts: dict[str, str] = {}
    for problem in error.errors():
        key = str(problem["loc"][0]) if problem["loc"] else ""
        message = problem["msg"].removeprefix("Value error, ").removeprefix("Input ")
        if not key:
            parts.setdefault(key, f"{name}: {message}")
        elif key not in parts:  # a union reports every alternative; the first says enough
            value = problem["input"]
            within = allowed(fields[key])
            parts[key] = f"{name}.{key}={_shown(value)} {message} ({within})"
    return "; ".join(parts.values())


def _shown(value: object) -> str:
    text = {True: "true", False: "false"}[value] if isinstance(value, bool) else str(value)
    return text if len(text) <= 40 else text[:37] + "..."
