"""A method that has a name but is not imported yet."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import inspect
import re
import sys
import traceback
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from wash_bench.errors import UsageError, WashBenchError
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


_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*$")


def source_hash(source: bytes) -> str:
    """First eight hex digits of the SHA-256."""
    return hashlib.sha256(source).hexdigest()[:8]


def read_source(path: Path, what: str = "method file") -> bytes:
    """A file's bytes; a UsageError, which calls it ``what``, where there are none to read."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise UsageError(f"{what} {path} does not exist") from None
    except OSError as error:
        raise UsageError(f"{what} {path} cannot be read: {error.strerror}") from None


def import_module(module: str, name: str) -> ModuleType:
    """Import the module of the installed method ``name``; UsageError if it fails."""
    try:
        return importlib.import_module(module)
    except (Exception, SystemExit) as error:
        raise UsageError(import_failure(f"method {name!r}", module, error)) from error


def import_file(path: Path, source: bytes, what: str = "method file") -> ModuleType:
    """Run a file as a module, named by path and content.

    Args:
        path: the file.
        source: its content.
        what: what an error line calls it.

    Returns:
        The module.

    Raises:
        UsageError: it does not import.
    """
    key = source_hash(str(path).encode() + b"\0" + source)
    name = f"wash_bench_file_{re.sub(r'[^0-9A-Za-z]', '_', path.stem)}_{key}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None  # there is a loader for .py
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and pydantic look their module up while it runs
    try:
        # Not spec.loader.exec_module: the bytes run must be the bytes hashed, no cached bytecode.
        exec(compile(source, str(path), "exec"), module.__dict__)
    except BaseException as error:
        del sys.modules[name]
        if isinstance(error, (Exception, SystemExit)):
            raise UsageError(import_failure(what, str(path), error)) from error
        raise
    return module


def import_failure(what: str, place: str, error: BaseException) -> str:
    """``what`` does not import: the exception, and the line of the file that raised it."""
    message = error.msg if isinstance(error, SyntaxError) else str(error)
    message = " ".join(message.split())
    if isinstance(error, SyntaxError):
        where = f"{error.filename}, line {error.lineno}"
    else:
        frames = traceback.extract_tb(error.__traceback__)
        frames = [frame for frame in frames if frame.filename == place] or frames
        where = f"{frames[-1].filename}, line {frames[-1].lineno}"
    return f"{what} {place} does not import: {type(error).__name__}: {message} ({where})"


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
