"""The methods of a run, and the options that the layers set for them."""

from collections.abc import Mapping, Sequence
from typing import Any

from wash_bench.errors import UsageError, nearest
from wash_bench.plugins.names import WRAP, parts
from wash_bench.plugins.options import parse_set
from wash_bench.plugins.registry import (
    MethodEntry,
    find_method,
    known_method,
    load_method_file,
    method_names,
    named_method,
    place_options,
)
from wash_bench.study.coupling import of_coupling
from wash_bench.study.sources import ConfigSource
from wash_bench.study.sweep import variants


def find_methods(names: Sequence[str], files: Sequence[str]) -> list[MethodEntry]:
    """The methods of a run.

    Args:
        names: methods that are installed or come from a file, with or without wrappers, or
            ``path.py:Class`` and ``path.py:Class+WRAPPER``.
        files: ``path.py:Class``; one that no name has as a part runs by itself.

    Returns:
        The methods in this order.

    Raises:
        UsageError: one is not known, or two have one name.
    """
    loaded = [load_method_file(spec) for spec in files]
    named = {name: named_method(name) for name in names if ".py:" in name}
    own = {e.name: e for e in (*loaded, *named.values()) if not e.wrappers}
    entries = [named[name] if name in named else find_method(name, own) for name in names]
    used = {part for name in names if ".py:" not in name for part in parts(name)}
    entries += [entry for entry in loaded if entry.name not in used or own[entry.name] != entry]
    found = [entry.name for entry in entries]
    for name in found:
        if found.count(name) > 1:
            raise UsageError(f"two methods are called {name!r}: rename one of them")
    return entries


def merge_options(
    entries: Sequence[MethodEntry],
    layers: Sequence[ConfigSource],
    of_papers: ConfigSource | None = None,
    tuned: ConfigSource | None = None,
) -> dict[str, dict[str, Any]]:
    """What the layers set for each method; later layers win.

    Args:
        entries: the methods of the run.
        layers: the layers, in order.
        of_papers: the papers' settings, of which the coupling alone counts; comes first.
        tuned: with it, the layer whose coupling was chosen for another training and is left out.

    Returns:
        The options by method, all allowed; one with several values is a sweep.

    Raises:
        UsageError: a method or an option is not known, or a value is not allowed.
    """
    running = {entry.name: entry for entry in entries}
    merged: dict[str, dict[str, Any]] = {}
    for layer in [of_papers, *layers] if of_papers else layers:
        # NAME's options hold for NAME+WRAPPER too, whose own come after them and win.
        for method, options in sorted(_tables(layer).items(), key=lambda item: WRAP in item[0]):
            options = {key.replace("-", "_"): value for key, value in options.items()}
            for name in _meant(method, options, running, layer):
                placed = place_options(running[name], method, options)
                if of_papers and (layer is of_papers or layer is tuned):
                    coupling = of_coupling(running[name], placed)
                    others = {k: v for k, v in placed.items() if k not in coupling}
                    placed = coupling if layer is of_papers else others
                held = merged.setdefault(name, {})
                for key, value in placed.items():
                    table = isinstance(value, dict) and isinstance(held.get(key), dict)
                    held[key] = held[key] | value if table else value
    for name, entry in running.items():
        try:
            for own in variants(entry, merged.get(name, {})):
                known_method(entry, own)
        except UsageError as error:  # an unknown option or a bad value
            raise UsageError(f"{error}{_origin(layers, entry, str(error))}") from None
    return merged


def _tables(layer: ConfigSource) -> Mapping[str, Mapping[str, Any]]:
    """A layer's options by method."""
    given = layer.values.get("set", {})
    where = f" in {layer.file}" if layer.file else ""
    if not isinstance(given, Mapping | list | tuple):
        raise UsageError(f"set{where}: write it as set.METHOD.OPTION = VALUE")
    tables = given if isinstance(given, Mapping) else parse_set(list(map(str, given)))
    for method, options in tables.items():
        if not isinstance(options, Mapping):
            raise UsageError(f"set.{method}{where}: write it as set.METHOD.OPTION = VALUE")
    return tables


def _meant(
    method: str, options: Mapping[str, Any], running: Mapping[str, MethodEntry], layer: ConfigSource
) -> list[str]:
    """The methods of the run that a table called ``method`` is about."""
    meant = [name for name in running if method in (name, *parts(name))]
    names = {*method_names(), *running}
    where = f" in {layer.file}" if layer.file else ""
    if not meant and method not in names:
        raise UsageError(f"unknown method {method!r} in set{where}: {nearest(method, names)}")
    if not meant and not layer.file:  # a preset has settings for methods that a run leaves out
        raise UsageError(
            f"--set {method}.{next(iter(options), '')}: this run has no method "
            f"{method!r}; it has {', '.join(running)}"
        )
    return meant


def _origin(layers: Sequence[ConfigSource], entry: MethodEntry, message: str) -> str:
    """`` in FILE`` where a preset file's options alone make the method complain like this."""
    for layer in layers:
        given = layer.values.get("set", {})
        if not layer.file or not isinstance(given, Mapping) or entry.name not in given:
            continue
        options = {key.replace("-", "_"): value for key, value in given[entry.name].items()}
        try:
            for own in variants(entry, options):
                known_method(entry, own)
        except UsageError as error:
            if str(error) == message:
                return f" in {layer.file}"
    return ""
