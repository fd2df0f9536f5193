"""Settings from one source, and the reading of its list-valued ones."""

import contextlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from wash_bench.config.renamed import VALUES, flag_of
from wash_bench.errors import UsageError

_WHAT = {int: "whole numbers", float: "numbers", str: "names"}


@dataclass(frozen=True)
class ConfigSource:
    """Settings from one source, keys with underscores; ``file`` is empty for the command line."""

    file: str
    values: Mapping[str, Any]

    def label(self, key: str, value: Any) -> str:
        """How an error line names a setting and its value."""
        name = flag_of(key)[2:]
        value = VALUES.get(key, {}).get(value, value) if isinstance(value, str) else value
        if isinstance(value, list | tuple):
            value = ",".join(map(str, value))
        if self.file:
            return f"{name} = {value} in {self.file}"
        return f"--{name} {value}"


def parse_list(layer: ConfigSource, key: str, kind: type) -> tuple[Any, ...]:
    """``"0,1,2"`` or a TOML list as a tuple of ``kind``, all different and none below zero."""
    value = layer.values[key]
    label = layer.label(key, value)
    items = list(value) if isinstance(value, list | tuple) else str(value).split(",")
    no_items = (bool, dict, list, float) if kind is int else (bool, dict, list)
    read = None
    if not any(isinstance(item, no_items) for item in items):
        items = [item.strip() if isinstance(item, str) else item for item in items]
        if kind is int:
            items = [number for item in items for number in _range(item)]
        if not items or "" in items:
            raise UsageError(f"{label}: an item is missing; separate the items by single commas")
        with contextlib.suppress(ValueError):
            read = [kind(item) for item in items]
    if read is None:
        raise UsageError(f"{label}: must be {_WHAT[kind]} separated by commas")
    if kind is int and min(read) < 0:
        raise UsageError(f"{label}: must be whole numbers from 0")
    for item in read:
        if read.count(item) > 1:
            raise UsageError(f"{label}: {item} is given twice; leave one of them out")
    return tuple(read)


_WIDEST = 10_000  # numbers of one range


def _range(item: Any) -> list[Any]:
    """Return the numbers of ``2-5``; anything else as it is."""
    ends = re.fullmatch(r"(\d{1,9})-(\d{1,9})", item) if isinstance(item, str) else None
    if not ends or not 0 <= int(ends[2]) - int(ends[1]) < _WIDEST:
        return [item]
    return [*range(int(ends[1]), int(ends[2]) + 1)]


def merge_model_args(layers: Sequence[ConfigSource]) -> dict[str, Any]:
    """The ``KEY=VALUE`` of ``timm.create_model``, in TOML's types; a later layer's value counts."""
    from wash_bench.plugins.options import parse_value

    merged: dict[str, Any] = {}
    for layer in layers:
        given = layer.values.get("model_arg", {})
        if isinstance(given, Mapping):
            for name, value in given.items():
                if isinstance(value, str) and value.lower() in ("true", "false", "none"):
                    raise UsageError(
                        f"{layer.label('model_arg', f'{name}={value}')}: is a text, which counts "
                        "as true; write true or false without quotes"
                    )
            merged |= given
            continue
        for text in given if isinstance(given, list | tuple) else [given]:
            name, equals, value = str(text).partition("=")
            if not equals or not name.strip().isidentifier():
                raise UsageError(f"{layer.label('model_arg', text)}: write it as key=value")
            try:
                merged[name.strip()] = parse_value(value)
            except UsageError as error:
                raise UsageError(f"{layer.label('model_arg', text)}: {error}") from None
    return merged
