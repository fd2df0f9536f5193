"""A method's file for the tests of registry, and the one line of an error."""

from __future__ import annotations

import pytest

from wash_bench.errors import UsageError, WashBenchError

METHOD = """
from typing import Literal

from pydantic import model_validator

from wash_bench.core.method import Method, MethodOptions, option


class MineOptions(MethodOptions):
    p: float = option(0.5, "share that moves", unit="probability", ge=0, le=1)
    every: int = option(1, "steps between", unit="steps", ge=1, unverified="not in the paper")
    rule: Literal["up", "down"] = option("down", "layer rule")
    twice: bool = option(False, "do it twice")
    stop: int | None = option(None, "last step", ge=0)
    layers: tuple[int, ...] = option((), "which layers")

    @model_validator(mode="after")
    def _check(self):
        if self.twice and self.rule == "up":
            raise ValueError("twice goes with rule=down only")
        return self


class Mine(Method):
    name, rule, paper, sends = "mine", "x <- x", "none", "nothing"
    Options = MineOptions

    def after_step(self, population, exchange, clock):
        pass

    def charges(self, site, clock):
        return []

    def predictors(self, population, judge):
        return {}


class Half(Method):
    name, rule, paper, sends = "half", "x", "none", "nothing"

    def charges(self, site, clock):
        return []


class Nameless(Mine):
    name = ""


class Spaced(Mine):
    name = "a b"


class Clash(Mine):
    name = "wash"


class BadOptions(Mine):
    Options = dict


class Picky(Mine):
    name = "picky"

    def __init__(self, options=None):
        super().__init__(options)
        if self.options.p == 0:
            raise ValueError("p = 0 moves\\nnothing")


class Other:
    pass
"""


def line_of(call, *arguments, kind: type[WashBenchError] = UsageError) -> str:
    """The one line of the error that a call ends with."""
    with pytest.raises(kind) as caught:
        call(*arguments)
    assert "\n" not in str(caught.value)
    return str(caught.value)
