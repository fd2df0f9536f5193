"""What a check says."""

import traceback
from dataclasses import dataclass


class Failed(Exception):
    """A check that a method does not pass: what is wrong and what to change, a line each."""

    def __init__(self, reason: str, fix: str) -> None:
        super().__init__(reason)
        self.reason = reason
        self.fix = fix


@dataclass(frozen=True)
class Finding:
    """A check's result: the reason of a failure, or what was seen, and what to change."""

    check: str
    passed: bool
    text: str = ""
    fix: str = ""


def crash(error: BaseException) -> str:
    """What a method's own code ran into, and where, on one line."""
    frames = traceback.extract_tb(error.__traceback__)
    where = f" ({frames[-1].filename}, line {frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}: {' '.join(str(error).split())}{where}"
