"""What a shell's completion offers for names; nothing heavy is imported for it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from wash_bench.plugins.names import WRAP

if TYPE_CHECKING:
    from wash_bench.config.field import Option

Complete = Callable[[str], list[str]]


def _beginning(names: Iterable[str], incomplete: str) -> list[str]:
    return [name for name in names if name.startswith(incomplete)]


def method(incomplete: str) -> list[str]:
    """A method; after a + what can be wrapped around one."""
    from wash_bench.plugins.registry import method_names

    before, plus, last = incomplete.rpartition(WRAP)
    names = method_names()
    if plus:
        names = [
            name for kind in ("trajectory", "merge", "exchange") for name in method_names(kind)
        ]
    return [before + plus + name for name in _beginning(names, last)]


def methods(incomplete: str) -> list[str]:
    """The last of several methods, separated by commas."""
    before, comma, last = incomplete.rpartition(",")
    return [before + comma + name for name in method(last)]


def method_option(incomplete: str) -> list[str]:
    """A method's option, as ``wash.p=``."""
    from wash_bench.plugins.registry import describe, find_method, method_names

    name, dot, option = incomplete.partition(".")
    if not dot:
        return [f"{found}." for found in _beginning(method_names(), name)]
    if name not in method_names():
        return []
    options = (f"{item.name}=" for item in describe(find_method(name)).options)
    return [f"{name}.{found}" for found in _beginning(options, option)]


def model(incomplete: str) -> list[str]:
    """An architecture of timm's."""
    from wash_bench.models.names import architecture_names

    return _beginning(architecture_names(), incomplete)


def dataset(incomplete: str) -> list[str]:
    """A data set, or the beginning of a folder's."""
    from wash_bench.data.catalog import all_specs

    return _beginning((*(spec.name for spec in all_specs()), "folder:"), incomplete)


def preset(incomplete: str) -> list[str]:
    """A preset."""
    from wash_bench.study.presets import preset_names

    return _beginning(preset_names(), incomplete)


def table(incomplete: str) -> list[str]:
    """One of the papers' tables."""
    from wash_bench.study.file import table_names

    return _beginning(table_names(), incomplete)


SETTINGS: dict[str, Complete] = {
    "methods": methods,
    "set": method_option,
    "model": model,
    "dataset": dataset,
}
"""By key, for settings whose values are names of a list."""


def of_setting(item: Option) -> Complete | None:
    """For an option: its choices, or the names of a list; None where there is nothing to offer."""
    if item.choices:
        return lambda incomplete: _beginning(item.choices, incomplete)
    return SETTINGS.get(item.key)
