"""Methods and their options in words."""

from __future__ import annotations

import types
import typing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo

    from wash_bench.core.method import Method


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
