"""Sweeps: an option of a method with several values makes the method run with each of them.

``wash.p=0.01,0.03,0.1`` is three variants of WASH. Of several swept options of one method every
combination is a variant; methods are swept each by itself, not against one another. An option
that is a list by nature has its values apart by semicolons: ``dart.branches=plain;cutout,mixup``.
"""

from __future__ import annotations

import itertools
import typing
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from wash_bench.errors import UsageError
from wash_bench.plugins.options import as_typed, parse_value

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo

    from wash_bench.plugins.entry import MethodEntry

Options = dict[str, Any]


def variants(entry: MethodEntry, options: Mapping[str, Any]) -> list[Options]:
    """Each variant's options (a wrapper's own in a table), the first swept one turning slowest."""
    wrappers = {wrapper.name: wrapper for wrapper in entry.wrappers}
    choices: list[list[tuple[str, Any]]] = []
    for name, value in options.items():
        if name in wrappers and isinstance(value, Mapping):
            items: Sequence[Any] = variants(wrappers[name], value)
        else:
            field = entry.load().Options.model_fields.get(name)
            items = _values(f"{entry.base}.{name}", value, field)
        choices.append([(name, item) for item in items])
    return [dict(chosen) for chosen in itertools.product(*choices)]


def differing(variants_of_one: Sequence[Mapping[str, Any]]) -> list[str]:
    """The options in which variants of one method differ, a wrapper's as NAME.OPTION."""
    flat = [flattened(options) for options in variants_of_one]
    names = dict.fromkeys(name for options in flat for name in options)
    return [n for n in names if any(own.get(n) != flat[0].get(n) for own in flat)]


def flattened(options: Mapping[str, Any]) -> Options:
    """Options with a wrapper's own under NAME.OPTION."""
    flat: Options = {}
    for key, value in options.items():
        inner = value.items() if isinstance(value, Mapping) else ()
        flat |= {f"{key}.{name}": item for name, item in inner} if inner else {key: value}
    return flat


def nested(flat: Mapping[str, Any]) -> Options:
    """The inverse of ``flattened``: a wrapper's own options in a table of its name."""
    options: Options = {}
    for name, value in flat.items():
        *wrapper, key = name.split(".")
        (options.setdefault(wrapper[0], {}) if wrapper else options)[key] = value
    return options


def told(options: Mapping[str, Any], names: Iterable[str]) -> str:
    """Some of a variant's options, as ``every=10, alpha=0.9``."""
    flat = flattened(options)
    return ", ".join(f"{name}={as_typed(flat[name])}" for name in names if name in flat)


def all_told(options: Mapping[str, Any]) -> str:
    """All of a method's options, as ``every=10 alpha=0.9``."""
    return " ".join(f"{name}={as_typed(value)}" for name, value in flattened(options).items())


def _values(label: str, value: Any, field: FieldInfo | None) -> list[Any]:
    """The values that are meant; one that is no sweep is itself the only one."""
    if field is None:  # an unknown option is told where options are checked
        return [value]
    a_list = _is_list(field.annotation)
    if isinstance(value, str):
        separator = ";" if a_list else ","
        texts = [text.strip() for text in value.split(separator)]
        if len(texts) == 1:
            return [value]
        if "" in texts:
            raise UsageError(f"{label}={value}: a value is missing; write {label}=A{separator}B")
        values = [text if a_list else parse_value(text) for text in texts]
    elif isinstance(value, list | tuple) and value:
        if a_list and not all(isinstance(item, list | tuple) for item in value):
            return [value]
        values = list(value)
    else:
        return [value]
    for item in values:
        if values.count(item) > 1:
            raise UsageError(f"{label}={value}: {item} is given twice; leave one of them out")
    return values


def _is_list(annotation: Any) -> bool:
    if typing.get_origin(annotation) in (tuple, list, set, frozenset):
        return True
    return any(_is_list(argument) for argument in typing.get_args(annotation))
