"""Files that are written whole: a reader sees the old one or the new one, never a part of it."""

import contextlib
import errno
import glob
import hashlib
import json
import os
import secrets
import shutil
import tomllib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, BinaryIO

from wash_bench.errors import UsageError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

_HEADER = 100_000_000  # bytes that the header of a safetensors file may have at most


def write_atomically(path: Path, write: Callable[[Path], None]) -> None:
    """Let ``write`` fill a temporary file in the same folder, sync it and rename it to ``path``.

    The old file stands until the new one is whole, also when the disk fills up meanwhile. What
    killed processes left of the same file is removed.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    for left in path.parent.glob(f".{glob.escape(path.name)}.*.part"):
        with contextlib.suppress(OSError), left.open("rb") as file:
            if _locked(file):  # or another process is writing it
                left.unlink()
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    held = temporary.open("xb")  # with the mode of any file of the user's
    if not _locked(held):
        held.close()
    try:
        write(temporary)
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    finally:
        held.close()
    _sync_folder(path.parent)


def _locked(file: BinaryIO) -> bool:
    """Lock an open file until it is closed, or its process has ended; False if that is not so."""
    if fcntl is None:
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:  # another process has it, or the file system has no locks
        return False
    return True


def _sync_folder(folder: Path) -> None:
    """Bring the names in a folder to the disk, where the system does that."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def write_text(path: Path, text: str) -> None:
    """Write text in UTF-8."""

    def write(part: Path) -> None:
        # A path need not be UTF-8: such bytes are written as escapes.
        part.write_text(text, encoding="utf-8", errors="backslashreplace")

    write_atomically(path, write)


def write_json(path: Path, data: Any) -> None:
    """Indented JSON; NaN and infinities become null, which every reader understands."""
    write_text(path, json.dumps(_finite(data), indent=1, allow_nan=False) + "\n")


def written(data: Any) -> Any:
    """Data as they are once written and read: lists for tuples, text for keys, null for NaN."""
    return json.loads(json.dumps(_finite(data), allow_nan=False))


def read_json(path: Path) -> Any:
    """What a JSON file holds; a ValueError if it is broken, or a folder, a pipe or the like."""
    if not path.is_file() and path.exists():
        raise ValueError(f"{path} is no regular file")
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except RecursionError:
        raise ValueError(f"{path} is nested too deeply") from None


def read_toml(path: Path) -> dict[str, Any]:
    """Read a user's TOML file, a byte-order mark before it or not; a ValueError if it is none."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def digest_of(path: Path) -> str:
    """SHA-256 of a file's bytes, hexadecimal."""
    with regular(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def safetensors_header(file: BinaryIO) -> tuple[int, Any]:
    """The header of a safetensors file that is open at its start, which is then behind it.

    Returns:
        Its length in bytes, and what it holds: tensors by name, and ``__metadata__``. What is no
        such file ends in a ValueError.
    """
    length = int.from_bytes(file.read(8), "little")
    return length, json.loads(file.read(min(length, _HEADER)))


def check_own(folder: Path, names: Iterable[str], own: Callable[[str], bool]) -> None:
    """Refuse to write over a user's files.

    Args:
        folder: where files are to be written.
        names: of these files.
        own: whether the file of a name, which is there, was written by this program.

    Raises:
        UsageError: a file is not.
    """
    foreign = [name for name in names if os.path.lexists(folder / name) and not own(name)]
    if foreign:
        raise UsageError(
            f"{folder} has files of your own that would be written over ({', '.join(foreign)}): "
            "choose another --out, or move them away"
        )


def regular(path: Path) -> Path:
    """The path; an OSError if a pipe or a device is there, of which reading may never end."""
    if path.exists() and not path.is_file() and not path.is_dir():
        raise OSError(errno.EINVAL, "is no regular file", str(path))
    return path


def remove(path: Path) -> None:
    """Remove a file, a link or a folder with all that is in it."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _finite(data: Any) -> Any:
    if isinstance(data, dict):
        return {key: _finite(value) for key, value in data.items()}
    if isinstance(data, list | tuple):
        return [_finite(value) for value in data]
    if isinstance(data, float) and data - data != 0:  # nan or infinite
        return None
    return data
