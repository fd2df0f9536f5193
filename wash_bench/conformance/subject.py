"""What is checked: something that makes a fresh method, here or in another process."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from wash_bench.conformance.witness import Witness
from wash_bench.core.wrapper import Wrapper
from wash_bench.plugins.options import make
from wash_bench.plugins.registry import make_method

if TYPE_CHECKING:
    from wash_bench.core.method import Method
    from wash_bench.plugins.registry import MethodEntry


@dataclass(frozen=True)
class Subject:
    """A method under check, made afresh by ``make``, which can be pickled."""

    name: str
    make: Callable[[], Method]
    around: bool = field(default=False)

    @staticmethod
    def of_class(method: type[Method], **options: Any) -> Subject:
        """The subject of a class that can be imported."""
        return Subject(method.name, partial(_of_class, method, options))


def subjects_of(entry: MethodEntry, options: Mapping[str, Any] | None = None) -> list[Subject]:
    """A method as it is and, for a wrapper or merge rule, around a method with memory."""
    given = dict(options or {})
    make_method(entry, given)
    subjects = [Subject(entry.name, partial(make_method, entry, given))]
    if issubclass(entry.load(), Wrapper) and not entry.wrappers:
        name = f"{Witness.name}+{entry.name}"
        subjects.append(Subject(name, partial(_around, entry, given), around=True))
    return subjects


def _of_class(cls: type[Method], options: dict[str, Any]) -> Method:
    return cls(cls.Options(**options))


def _around(entry: MethodEntry, options: dict[str, Any]) -> Method:
    return make(entry.name, entry.load(), options, Witness())
