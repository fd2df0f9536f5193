"""Options of methods: read from the command line and checked.

Imports neither torch nor any method, and pydantic only where something is checked.
"""

from __future__ import annotations

import ast
import math
import tomllib
import types
import typing
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from wash_bench.errors import UsageError, nearest

if TYPE_CHECKING:
    from pydantic import ValidationError
    from pydantic.fields import FieldInfo

    from wash_bench.core.method import Method


def parse_value(text: str) -> object:
    """A value as TOML or Python writes it, else the text; a UsageError if empty, or left open."""
    text = text.strip()
    if not text:
        raise UsageError("the value is empty")
    try:
        table = tomllib.loads(f"value = {text}")
        value = table["value"] if len(table) == 1 else None
    except (tomllib.TOMLDecodeError, RecursionError):
        if text not in ("True", "False", "None") and text[0] not in "[{(\"'":
            return text
        try:  # as timm's own options are written: False, (1, 2), [None, 'a']
            value = _without_tuples(ast.literal_eval(text))
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            raise UsageError(
                f"{text[:40]} cannot be read; write lists as [1, 2] or ['a', 'b']"
            ) from None
        if value is None:
            return None
    if not isinstance(value, (bool, int, float, str, list, dict)):
        return text  # several lines, or a date: nobody's option
    return value


def _without_tuples(value: object) -> object:
    """A Python literal in the types that JSON and TOML have; a ValueError if it has others."""
    if isinstance(value, list | tuple):
        return [_without_tuples(item) for item in value]
    if isinstance(value, dict):
        return {str(key): _without_tuples(item) for key, item in value.items()}
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise ValueError(f"{type(value).__name__} is no value of an option")


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


@dataclass(frozen=True)
class OptionDescription:
    """One option of a method, in words; texts that do not apply are empty."""

    name: str
    type: str
    default: object
    unit: str
    limits: str
    description: str
    unverified: str

    @property
    def allowed(self) -> str:
        """The type and the range."""
        return f"{self.type} {self.limits}".strip()

    @property
    def meaning(self) -> str:
        """What it is, with its unit, and what of its default is unverified."""
        unit = f" ({self.unit})" if self.unit else ""
        doubt = f"; unverified default: {self.unverified}" if self.unverified else ""
        return f"{self.description}{unit}{doubt}"


@dataclass(frozen=True)
class MethodDescription:
    """A method in words; ``target`` says where its class is, ``kind`` is one of ``KINDS``."""

    name: str
    rule: str
    paper: str
    sends: str
    when: str
    needs: str
    kind: str
    target: str
    options: tuple[OptionDescription, ...]


def describe_class(name: str, target: str, cls: type[Method]) -> MethodDescription:
    """A method's class in words."""
    options = tuple(_describe(key, field) for key, field in cls.Options.model_fields.items())
    return MethodDescription(
        name=name,
        rule=cls.rule,
        paper=cls.paper,
        sends=cls.sends,
        when=cls.when,
        needs=cls.needs,
        kind=cls.kind,
        target=target,
        options=options,
    )


def _describe(name: str, field: FieldInfo) -> OptionDescription:
    extra = field.json_schema_extra if isinstance(field.json_schema_extra, dict) else {}
    return OptionDescription(
        name=name,
        type=_type_in_words(field.annotation),
        default=field.get_default(call_default_factory=True),
        unit=str(extra.get("unit", "")),
        limits=_limits(field),
        description=field.description or "",
        unverified=str(extra.get("unverified", "")),
    )


def allowed(field: FieldInfo) -> str:
    """The type and the range of a field, as ``allowed: float in [0, 1]``."""
    kind, limits = _type_in_words(field.annotation), _limits(field)
    return f"allowed: {kind} {limits}".rstrip()


def _type_in_words(annotation: Any) -> str:
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Literal:
        return " or ".join(str(argument) for argument in arguments)
    if origin is typing.Annotated:
        return _type_in_words(arguments[0])
    if origin in (typing.Union, types.UnionType):
        return " or ".join(_type_in_words(argument) for argument in arguments)
    if origin in (tuple, list, set, frozenset):
        inner = [_type_in_words(argument) for argument in arguments if argument is not ...]
        return f"list of {', '.join(dict.fromkeys(inner))}"
    if annotation is bool:
        return "true or false"
    return {type(None): "none", str: "text"}.get(annotation, getattr(annotation, "__name__", "any"))


def takes(field: FieldInfo, kind: type) -> bool:
    """Whether ``kind`` is among the types of a field."""

    def within(annotation: Any) -> bool:
        if annotation in (kind, Any):
            return True
        if typing.get_origin(annotation) is typing.Literal:
            return any(isinstance(argument, kind) for argument in typing.get_args(annotation))
        return any(within(argument) for argument in typing.get_args(annotation))

    return within(field.annotation)


def bounds_of(field: FieldInfo, *further: str) -> dict[str, Any]:
    """A field's ge, gt, le and lt, and ``further`` constraints of pydantic, where it has them."""
    return {
        key: getattr(limit, key)
        for limit in field.metadata
        for key in ("ge", "gt", "le", "lt", *further)
        if getattr(limit, key, None) is not None
    }


def _limits(field: FieldInfo) -> str:
    """The range of a field, as ``in [0, 1]`` or ``>= 1``."""
    found = bounds_of(field, "multiple_of", "min_length", "max_length")
    low = found.get("ge", found.get("gt"))
    high = found.get("le", found.get("lt"))
    words = []
    if low is not None and high is not None:
        left, right = "[" if "ge" in found else "(", "]" if "le" in found else ")"
        words.append(f"in {left}{low:g}, {high:g}{right}")
    elif low is not None:
        words.append(f"{'>=' if 'ge' in found else '>'} {low:g}")
    elif high is not None:
        words.append(f"{'<=' if 'le' in found else '<'} {high:g}")
    if "multiple_of" in found:
        words.append(f"multiple of {found['multiple_of']:g}")
    if "min_length" in found or "max_length" in found:
        low, high = found.get("min_length", 0), found.get("max_length", "any")
        words.append(f"{low} to {high} entries")
    return ", ".join(words)
