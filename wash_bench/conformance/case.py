"""What is checked, and what a check says."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from wash_bench.conformance.bench import ReferenceRule
from wash_bench.core.wrapper import Wrapper
from wash_bench.plugins.options import make
from wash_bench.plugins.registry import make_method

if TYPE_CHECKING:
    from wash_bench.core.method import Method
    from wash_bench.plugins.registry import MethodEntry


class Failed(Exception):
    """A check that a method does not pass: what is wrong and what to change, a line each."""

    def __init__(self, reason: str, fix: str) -> None:
        super().__init__(reason)
        self.reason, self.fix = reason, fix


def require(ok: object, reason: str, fix: str) -> None:
    """Fail the check unless ``ok``."""
    if not ok:
        raise Failed(reason, fix)


@dataclass(frozen=True)
class CheckResult:
    """A check's result: the reason of a failure, or what was seen, and what to change."""

    check: str
    passed: bool
    text: str = ""
    fix: str = ""


def crash(error: BaseException) -> str:
    """Return what a method's own code raised, and where, on one line."""
    frames = traceback.extract_tb(error.__traceback__)
    where = f" ({frames[-1].filename}, line {frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}: {' '.join(str(error).split())}{where}"


@dataclass(frozen=True)
class Case:
    """A method under check, made afresh by ``make``, which can be pickled."""

    name: str
    make: Callable[[], Method]
    around: bool = field(default=False)

    @staticmethod
    def of_class(method: type[Method], **options: Any) -> Case:
        """Return the case of a class that can be imported."""
        return Case(method.name, partial(_of_class, method, options))


def cases_of(entry: MethodEntry, options: Mapping[str, Any] | None = None) -> list[Case]:
    """Return a method as it is and, for a wrapper or merge rule, around one with memory."""
    given = dict(options or {})
    make_method(entry, given)
    cases = [Case(entry.name, partial(make_method, entry, given))]
    if issubclass(entry.load(), Wrapper) and not entry.wrappers:
        name = f"{ReferenceRule.name}+{entry.name}"
        cases.append(Case(name, partial(_around, entry, given), around=True))
    return cases


def _of_class(cls: type[Method], options: dict[str, Any]) -> Method:
    return cls(cls.Options(**options))


def _around(entry: MethodEntry, options: dict[str, Any]) -> Method:
    return make(entry.name, entry.load(), options, ReferenceRule())
