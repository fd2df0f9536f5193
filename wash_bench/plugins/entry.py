"""A method that has a name but is not imported yet."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from wash_bench.errors import UsageError, WashBenchError
from wash_bench.plugins.importing import (
    import_file,
    import_module,
    method_class,
    read_source,
    source_hash,
)
from wash_bench.plugins.names import parts

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
