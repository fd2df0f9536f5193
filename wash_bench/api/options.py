"""Settings as keyword arguments."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from numbers import Number
from pathlib import Path
from typing import Any

from wash_bench.config.renamed import from_file
from wash_bench.errors import UsageError, nearest
from wash_bench.python_file import define
from wash_bench.study.options import OPTIONS


def _no_value(value: Any) -> str | None:
    """The type of an object that no setting can hold, as a network; None if there is none."""
    if isinstance(value, str | bytes | Number | Path):
        return None
    if isinstance(value, Mapping):
        value = value.values()
    elif not isinstance(value, list | tuple | set | range):
        return f"{type(value).__module__}.{type(value).__qualname__}".removeprefix("builtins.")
    return next((kind for item in value if (kind := _no_value(item))), None)


def _defined(given: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Give functions and classes names; a UsageError where other processes would need them."""
    named = dict(given)
    for key in ("model", "dataset"):
        if inspect.isroutine(named.get(key)) or inspect.isclass(named.get(key)):
            named[key] = define(named[key])
    if isinstance(methods := named.get("methods"), list | tuple):
        named["methods"] = [define(m) if inspect.isclass(m) else m for m in methods]
    elif inspect.isclass(methods):
        named["methods"] = [define(methods)]
    jobs = given.get("jobs", defaults.get("jobs"))
    if jobs not in (None, 1, "1") and named != dict(given):
        raise UsageError(f"jobs={jobs}: other processes do not have an object of this one: jobs=1")
    return named


def as_options(given: Mapping[str, Any], **defaults: Any) -> dict[str, Any]:
    """Keyword arguments as the resolver takes options.

    Args:
        given: by key of the settings; None for what is not given.
        **defaults: what holds where nothing is given.

    Returns:
        The options, paths as text.

    Raises:
        UsageError: one is no setting, or has an object for its value.
    """
    given = from_file(_defined(given, defaults), "the call")
    for key in given:
        if key not in OPTIONS:
            raise UsageError(f"{key}: no such setting; {nearest(key, OPTIONS)}")
    said = {key: value for key, value in given.items() if value is not None}
    for key, value in said.items():
        if (kind := _no_value(value)) is not None:
            raise UsageError(f"{key}: takes a name, a number or a list of them, not a {kind}")
    return {
        key: str(value) if isinstance(value, Path) else value
        for key, value in (defaults | said).items()
    }
