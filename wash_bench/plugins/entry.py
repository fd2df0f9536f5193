"""A method that has a name but is not imported yet."""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from wash_bench.errors import UsageError, WashBenchError
from wash_bench.plugins.names import parts
from wash_bench.python_file import import_failure, import_file, read_source, source_hash

if TYPE_CHECKING:
    from wash_bench.core.method import Method, MethodKind


@dataclass(frozen=True)
class MethodEntry:
    """A method that has a name but is not imported yet; it can be pickled to other processes.

    Attributes:
        name: the name on the command line, wrappers included (``wash+ema``).
        target: ``package.module:Class``, or ``/path/to/file.py:Class``.
        source_hash: first eight hex digits of the SHA-256 of the file that defines it, for
            methods that are not ours; None for ours, which the version of wash-bench identifies.
        wrappers: what goes around it, from the inside to the outside.
    """

    name: str
    target: str
    source_hash: str | None = None
    wrappers: tuple[MethodEntry, ...] = ()

    @property
    def base(self) -> str:
        """The method's own name, without what goes around it."""
        return parts(self.name)[0]

    @property
    def kind(self) -> MethodKind:
        """That of the outermost part, but a change of exchanges leaves the kind of the inside."""
        for entry in (*reversed(self.wrappers), self):
            if (kind := entry.load().kind) != "exchange":
                return kind
        return "exchange"

    @property
    def identity(self) -> str | None:
        """The source hashes of the method and of all that goes around it; None if all are ours."""
        return _joined((self, *self.wrappers))

    @property
    def training_identity(self) -> str | None:
        """The same without what only merges a trained population."""
        return _joined(entry for entry in (self, *self.wrappers) if not _only_merges(entry.load()))

    def load(self) -> type[Method]:
        """Import the class; an error if it is no complete Method, or its file has changed."""
        place, _, name = self.target.rpartition(":")
        if place.endswith(".py"):
            path = Path(place)
            source = read_source(path)
            if self.source_hash is not None and source_hash(source) != self.source_hash:
                raise WashBenchError(
                    f"method file {place} has changed since the run began; start the run again"
                )
            module = import_file(path, source)
        else:
            module = import_module(place, self.name)
        cls = method_class(module, name, place)
        if cls.name != self.base:
            raise UsageError(
                f"method {self.base!r}: {self.target} calls itself {cls.name!r}; "
                "the file or entry point must have the same name"
            )
        return cls


def _joined(entries: Iterable[MethodEntry]) -> str | None:
    hashes = [entry.source_hash for entry in entries]
    return "+".join(known or "-" for known in hashes) if any(hashes) else None


def _only_merges(cls: type[Method]) -> bool:
    from wash_bench.core.wrapper import MergeRule, training_hooks

    return issubclass(cls, MergeRule) and not training_hooks(cls)


_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*$")


def import_module(module: str, name: str) -> ModuleType:
    """Import the module of the installed method ``name``; UsageError if it fails."""
    try:
        return importlib.import_module(module)
    except (Exception, SystemExit) as error:
        raise UsageError(import_failure(f"method {name!r}", module, error)) from error


def method_class(module: ModuleType, name: str, place: str) -> type[Method]:
    """The complete Method of that name in a module; a UsageError says what is missing."""
    from wash_bench.core.method import Method, MethodOptions

    cls = getattr(module, name, None)
    if cls is None:
        found = [
            key
            for key, value in vars(module).items()
            if inspect.isclass(value) and issubclass(value, Method) and value is not Method
        ]
        hint = f"it has {', '.join(sorted(found))}" if found else "it defines no Method"
        raise UsageError(f"{place} has no class {name!r}; {hint}")
    if not (inspect.isclass(cls) and issubclass(cls, Method)):
        raise UsageError(f"{place}: {name} is not a subclass of wash_bench.core.method.Method")
    if missing := sorted(cls.__abstractmethods__):
        raise UsageError(f"{place}: {name} lacks the method(s) {', '.join(missing)}")
    missing = [
        attribute
        for attribute in ("name", "rule", "paper", "sends")
        if not isinstance(getattr(cls, attribute, None), str) or not getattr(cls, attribute)
    ]
    if missing:
        raise UsageError(f"{place}: {name} lacks the attribute(s) {', '.join(missing)} (texts)")
    if not _NAME.match(cls.name):
        raise UsageError(
            f"{place}: {name}.name {cls.name!r} may have letters, digits, - and _ only"
        )
    if not (inspect.isclass(cls.Options) and issubclass(cls.Options, MethodOptions)):
        raise UsageError(f"{place}: {name}.Options is not a subclass of MethodOptions")
    return cls
