"""What earlier versions had: each use is told, in one line, what to do now."""

from __future__ import annotations

from collections.abc import Sequence

from wash_bench.errors import UsageError, note

COMMANDS = {
    "merge-records": "'wash-bench report A B --out DIR' reads several run folders, without the "
    "disk space of a copy; runs that are given the same --out, on hosts that share it, fill one "
    "folder"
}
OPTIONS = {  # each with a value
    "--stale": "leave it out: a training whose process has died is free at once"
}


def without_gone(arguments: Sequence[str]) -> list[str]:
    """Return a command line without options that are gone; a UsageError for a command that is."""
    if arguments and arguments[0] in COMMANDS:
        raise UsageError(f"{arguments[0]} is gone: {COMMANDS[arguments[0]]}")
    present: list[str] = []
    rest = iter(arguments)
    for argument in rest:
        name, equals, _ = argument.partition("=")
        if name not in OPTIONS:
            present.append(argument)
            continue
        note(f"{name} is gone; {OPTIONS[name]}")
        if not equals:
            next(rest, None)
    return present
