"""Which methods there are, and how to get at one by name or by file.

Our methods are the modules of ``methods/``, found by file name. Those of other distributions are
entry points of the group ``wash_bench.methods``. A single file, ``path/to/file.py:Class``, stands
on equal terms. Nothing of a method is imported until :meth:`MethodEntry.load`.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import re
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wash_bench.errors import UsageError, nearest
from wash_bench.plugins.entry import MethodEntry, method_class
from wash_bench.plugins.names import WRAP, parts
from wash_bench.plugins.options import MethodDescription, describe_class, make
from wash_bench.python_file import (
    import_failure,
    import_file,
    is_in_file,
    read_source,
    source_hash,
)

if TYPE_CHECKING:
    from wash_bench.core.method import Method, MethodKind

GROUP = "wash_bench.methods"
FOLDER = Path(__file__).parents[1] / "methods"
_CLASS_OF_NAME = re.compile(r'^class (\w+)\((?:(?!^class ).)*?^    name = "([^"]+)"', re.M | re.S)


@cache
def entry_points(group: str) -> tuple[EntryPoint, ...]:
    """Return what other installed distributions offer, read once per process."""
    points = importlib.metadata.entry_points(group=group)
    return tuple(point for point in points if not _is_ours(point))


def own_names() -> list[str]:
    """Return the names of our own methods: ``NAME.py``, hyphens written as underscores."""
    return sorted(path.stem.replace("_", "-") for path in FOLDER.glob("[!_]*.py"))


def method_names(kind: MethodKind | None = None) -> list[str]:
    """Return the names of all installed methods, or of those of one kind, sorted."""
    names = sorted({*own_names(), *(point.name for point in entry_points(group=GROUP))})
    return [name for name in names if find_method(name).kind == kind] if kind else names


def find_method(name: str, own: Mapping[str, MethodEntry] | None = None) -> MethodEntry:
    """A method by its name.

    Args:
        name: NAME, or NAME+WRAPPER, which has a wrapper around it.
        own: methods of files by name, beside those that are installed.

    Returns:
        The method.

    Raises:
        UsageError: there is none, or two distributions offer one.
    """
    own = own or {}
    inside, *around = parts(name)
    if around:
        wrappers = tuple(find_method(wrapper, own) for wrapper in around)
        return replace(find_method(inside, own), name=name, wrappers=wrappers)
    if name in own:
        return own[name]
    points: dict[str, EntryPoint | None] = {
        f"{point.module}:{point.attr}": point
        for point in entry_points(group=GROUP)
        if point.name == name
    }
    if name in own_names():
        points[_own_target(name)] = None
    if not points:
        raise UsageError(f"unknown method {name!r}: {nearest(name, [*method_names(), *own])}")
    if len(points) > 1:
        raise UsageError(
            f"method {name!r} is offered twice, by {' and '.join(sorted(points))}; "
            "uninstall one of the two distributions"
        )
    ((target, point),) = points.items()
    return MethodEntry(name, target, _hash_of_module(point) if point else None)


def _own_target(name: str) -> str:
    """Return ``module:Class`` of one of our methods, read off its source without importing it."""
    path = FOLDER / f"{name.replace('-', '_')}.py"
    found = _CLASS_OF_NAME.findall(path.read_text(encoding="utf-8"))
    classes = [cls for cls, called in found if called == name]
    if len(classes) != 1:
        raise UsageError(f'{path} must have one class with the line name = "{name}"')
    return f"{GROUP}.{path.stem}:{classes[0]}"


def named_method(spec: str) -> MethodEntry:
    """Return the method of ``NAME`` or ``path/to/file.py:Class``, with or without ``+WRAPPER``."""
    if ".py:" not in spec:
        return find_method(spec)
    place, _, rest = spec.rpartition(":")
    cls, *around = parts(rest)
    entry = load_method_file(f"{place}:{cls}")
    return find_method(WRAP.join([entry.name, *around]), {entry.name: entry}) if around else entry


def load_method_file(spec: str) -> MethodEntry:
    """The method of ``path/to/file.py:Class``; a UsageError if it is none, or its name is taken."""
    if not is_in_file(spec):
        raise UsageError(f"{spec}: write path/to/file.py:Class")
    place, _, name = spec.rpartition(":")
    path = Path(place).expanduser().resolve()
    source = read_source(path)
    cls = method_class(import_file(path, source), name, place)
    if cls.name in method_names():
        raise UsageError(
            f"{place}: the name {cls.name!r} belongs to an installed method; "
            f"set another {name}.name"
        )
    return MethodEntry(cls.name, f"{path}:{name}", source_hash(source))


def make_method(entry: MethodEntry, options: Mapping[str, Any] | None = None) -> Method:
    """Construct a method; ``options`` hold a wrapper's own in a table of its name."""
    given = dict(options or {})
    of_wrappers = [given.pop(wrapper.name, {}) for wrapper in entry.wrappers]
    method = make(entry.base, entry.load(), given)
    for wrapper, own in zip(entry.wrappers, of_wrappers, strict=True):
        cls = wrapper.load()
        if not isinstance(own, Mapping):
            raise UsageError(
                f"{entry.name}.{wrapper.name}={own}: write {wrapper.name}.OPTION=VALUE"
            )
        if reason := why_not_around(cls, method):
            raise UsageError(f"{entry.name}: {reason}")
        method = make(wrapper.name, cls, own, method)
    return method


def known_method(entry: MethodEntry, options: Mapping[str, Any] | None = None) -> Method:
    """Return a method to ask about itself: constructed once, shared, and never trained."""
    key = entry, json.dumps(options or {}, sort_keys=True, default=repr)
    if key not in _KNOWN:
        _KNOWN[key] = make_method(entry, options)
    return _KNOWN[key]


_KNOWN: dict[tuple[MethodEntry, str], Method] = {}


def why_not_around(cls: type[Method], inner: Method) -> str:
    """Why a class cannot go around a method, in words; empty if it can."""
    from wash_bench.core.wrapper import MergeRule, Wrapper

    if not issubclass(cls, Wrapper):
        return f"{cls.name} is a training rule and cannot go around another method"
    if isinstance(inner, MergeRule):
        return f"{inner.own_name} merges the population; write it last, and once"
    return ""


def place_options(entry: MethodEntry, name: str, options: dict[str, Any]) -> dict[str, Any]:
    """The options given under a name, as the method takes them.

    Returns:
        The method's own, and a wrapper's in a table of its name; under ``papa+topk`` that is
        ``share`` or, as reports show it, ``topk.share``.

    Raises:
        UsageError: an option is given by both.
    """
    if name == entry.base:
        return options
    wrappers = {wrapper.name: wrapper for wrapper in entry.wrappers}
    if name in wrappers:
        return {name: options}
    placed: dict[str, Any] = {}
    own = entry.load().Options.model_fields
    for key, value in options.items():
        holder, dot, inside = key.partition(".")
        given: Mapping[str, Any] = {inside: value}
        if holder not in wrappers:
            takes = (w for w, at in wrappers.items() if key in at.load().Options.model_fields)
            holder, given = "" if key in own else next(takes, ""), {key: value}
        elif not dot and isinstance(value, Mapping):
            given = value
        elif not dot:
            raise UsageError(f"{name}.{key}={value}: write {key}.OPTION=VALUE")
        table = placed.setdefault(holder, {}) if holder else placed
        for option in given:
            if option in table:
                raise UsageError(
                    f"{name}.{option} and {name}.{holder}.{option} are one option: leave one out"
                )
        table |= given
    return placed


def describe(entry: MethodEntry) -> MethodDescription:
    """What ``wash-bench methods NAME`` shows."""
    method = make_method(entry)
    described = describe_class(entry.name, entry.target, entry.load())
    options = [*described.options]
    for wrapper in entry.wrappers:
        options += describe_class(wrapper.name, wrapper.target, wrapper.load()).options
    return replace(described, rule=method.rule, kind=entry.kind, options=tuple(options))


def _is_ours(point: EntryPoint) -> bool:
    return point.dist is not None and point.dist.name.replace("_", "-").lower() == "wash-bench"


def _hash_of_module(point: EntryPoint) -> str:
    """The hash of the module file of another distribution's method."""
    try:
        spec = importlib.util.find_spec(point.module)  # imports the packages above the module
    except Exception as error:
        raise UsageError(import_failure(f"method {point.name!r}", point.module, error)) from error
    if spec is None or spec.origin is None or not Path(spec.origin).is_file():
        raise UsageError(f"method {point.name!r}: there is no module {point.module}")
    return source_hash(read_source(Path(spec.origin)))
