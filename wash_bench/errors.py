"""The errors that a user sees: one line on stderr each, with the fix in it."""

import difflib
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


def note(text: str) -> None:
    """Tell the user, in one line on stderr, what is no failure."""
    sys.stderr.write(f"wash-bench: note: {text}\n")


def inform(text: str) -> None:
    """Write a fact about the settings, in one line on stdout, beside the lines on their origin."""
    sys.stdout.write(f"note: {text}\n")
    sys.stdout.flush()


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
