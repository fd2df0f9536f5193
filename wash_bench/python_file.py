"""Python files of the user's: read, hashed, and imported by path and content.

A function or class that a program or a notebook defines stands for such a file, of its own source.
"""

from __future__ import annotations

import ast
import contextlib
import hashlib
import importlib.util
import inspect
import linecache
import re
import sys
import textwrap
import traceback
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from wash_bench.errors import UsageError


def source_hash(source: bytes) -> str:
    """First eight hex digits of the SHA-256."""
    return hashlib.sha256(source).hexdigest()[:8]


def read_source(path: Path, what: str = "method file") -> bytes:
    """A file's bytes; a UsageError, which calls it ``what``, where there are none to read."""
    if path.name in _DEFINED:
        return _DEFINED[path.name][0]
    try:
        return path.read_bytes()
    except FileNotFoundError:
        if path.name.startswith("__"):
            raise UsageError(
                f"{what} {path.name} stands for an object of another program: pass the object to "
                "wash_bench.run again, with jobs=1"
            ) from None
        raise UsageError(f"{what} {path} does not exist") from None
    except OSError as error:
        raise UsageError(f"{what} {path} cannot be read: {error.strerror}") from None


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
    if path.name in _DEFINED:
        return _DEFINED[path.name][1]
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


_DEFINED: dict[str, tuple[bytes, ModuleType]] = {}  # by the name of the file they stand for


def define(value: Any) -> str:
    """Return a name ``FILE.py:NAME`` by which this process finds a function or a class.

    Raises:
        UsageError: it has no name or no source, by which it would be identified.
    """
    name = getattr(value, "__name__", type(value).__name__)
    if not name.isidentifier():
        raise UsageError("a lambda cannot be identified: define a function by def")
    if (source := _source_of(value, name)) is None:
        raise UsageError(f"{name} has no source that could identify it: define it in a file")
    module = ModuleType(name)
    setattr(module, name, value)
    place = f"__{name}_{source_hash(source.encode())}__.py"
    _DEFINED[place] = source.encode(), module
    return f"{place}:{name}"


def _source_of(value: Any, name: str) -> str | None:
    try:
        return textwrap.dedent(inspect.getsource(value))
    except (OSError, TypeError):  # of a class of a notebook: its cell has it
        held = getattr(value, "__dict__", {})
        functions = [item for item in held.values() if inspect.isfunction(item)]
    for function in functions:
        text = "".join(linecache.getlines(function.__code__.co_filename))
        with contextlib.suppress(SyntaxError):
            for node in ast.walk(ast.parse(text)):
                if isinstance(node, ast.ClassDef) and node.name == name:
                    return ast.get_source_segment(text, node)
    return None


def is_in_file(name: str) -> bool:
    """Whether a name is ``path/to/file.py:NAME``."""
    place, _, function = name.rpartition(":")
    return place.endswith(".py") and function.isidentifier()


def digest_in_file(name: str, what: str) -> str:
    """Return what identifies ``FILE.py:NAME`` wherever the file lies: its name and content."""
    place, _, function = name.rpartition(":")
    path = Path(place).expanduser()
    return f"{path.name}:{function}@{source_hash(read_source(path, what))}"


def function_in_file(name: str, what: str) -> Callable[..., Any]:
    """Import ``FILE.py:NAME``; a UsageError, which calls it ``what``, if it is no function."""
    place, _, called = name.rpartition(":")
    path = Path(place).expanduser().resolve()
    module = import_file(path, read_source(path, what), what)
    function = getattr(module, called, None)
    if not callable(function):
        own = [key for key, value in vars(module).items() if callable(value) and key[0] != "_"]
        raise UsageError(f"{what} {place} has no function {called!r}; it has {', '.join(own)}")
    return function
