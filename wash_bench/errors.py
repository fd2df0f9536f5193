"""The errors that a user sees: one line on stderr each, with the fix in it."""

import difflib
import re
import sys
from collections.abc import Iterable

LAUNCHED = "WASH_BENCH_LAUNCHER"
"""Environment variable of the processes of ``--nproc``: their launcher, which tells errors."""

KEPT = "the last checkpoint is whole, and the same command goes on from it"


class WashBenchError(Exception):
    """A failure told to the user in one line; the command ends with ``exit_code``."""

    exit_code = 1


class UsageError(WashBenchError):
    """The command line, a preset or a method file is wrong; nothing has been started."""

    exit_code = 2


class Interrupted(WashBenchError):
    """Ctrl-C, with what the user should know about the state that it left."""

    exit_code = 130


class CellFailure(WashBenchError):
    """One training or evaluation failed; the other cells of the run go on."""


_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def printable(text: str) -> str:
    r"""Return text from outside with control characters, but tab and line end, as escapes.

    They would set a terminal's title, colours or clipboard.

    >>> printable("a\x1b[31mred")
    'a\\x1b[31mred'
    """
    return _CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", text)


def note(text: str) -> None:
    """Tell the user, in one line on stderr, what is no failure."""
    sys.stderr.write(f"wash-bench: note: {printable(text)}\n")


def inform(text: str) -> None:
    """Write a fact about the settings, in one line on stdout, beside the lines on their origin."""
    sys.stdout.write(f"note: {printable(text)}\n")
    sys.stdout.flush()


def one_line(error: BaseException) -> str:
    """An exception's message on one line, shortened, with its type where the message is bare."""
    text = " ".join(str(error).split())
    if len(text) > 200:
        text = text[:197] + "..."
    bare = not text or isinstance(error, KeyError)
    return f"{type(error).__name__} {text}".strip() if bare else text.rstrip(".")


def nearest(name: str, known: Iterable[str]) -> str:
    """The end of an error line: the names nearest to ``name``, or all of them if they are few.

    Returns:
        A question, or a list; what comes after a colon.

    >>> nearest("wahs", ["wash", "papa"])
    "did you mean 'wash'?"
    """
    known = sorted(known)
    close = difflib.get_close_matches(name, known, n=3, cutoff=0.6)
    if close:
        return "did you mean " + " or ".join(repr(match) for match in close) + "?"
    if len(known) <= 20:
        return "known: " + ", ".join(known)
    return f"none of the {len(known)} known names is near"
