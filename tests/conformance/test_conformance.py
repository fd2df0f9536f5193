"""The conformance suite: every installed method passes it, and every check can fail."""

from __future__ import annotations

from functools import partial

import pytest

from tests.support import broken_methods
from tests.support.busy import BUSY, SILENT
from wash_bench.cli.main import run_command
from wash_bench.conformance.bench import ReferenceRule
from wash_bench.conformance.case import Case, cases_of
from wash_bench.conformance.processes import Answer, in_two_processes
from wash_bench.conformance.suite import AROUND, CHECKS, PROCESSES, run_check
from wash_bench.core.wrapper import MergeRule
from wash_bench.plugins.registry import find_method, method_names


def _around_reference_rule(cls: type) -> object:
    return cls(None, ReferenceRule())


INSTALLED = {
    name: cases_of(find_method(name), BUSY.get(name))
    for name in method_names()
    if find_method(name).target.startswith("wash_bench.")
}
WRONG = {cls: Case.of_class(cls) for cases in broken_methods.BROKEN.values() for cls, _ in cases}
CASES = [
    pytest.param(
        *(check, cls, words),
        id=f"{check}-{cls.__name__}",
        marks=[pytest.mark.slow] if check == PROCESSES else [],
    )
    for check, cases in broken_methods.BROKEN.items()
    for cls, words in cases
]


@pytest.fixture(scope="module")
def answers() -> dict[str, Answer]:
    """Everybody in one pair of processes, but what ends it: that comes last."""
    everybody = [case for both in INSTALLED.values() for case in both]
    everybody += [Case.of_class(cls) for cls, _ in broken_methods.BROKEN[PROCESSES]]
    named = [case.name for case in everybody]
    named[-len(broken_methods.BROKEN[PROCESSES]) :] = [
        c.__name__ for c, _ in broken_methods.BROKEN[PROCESSES]
    ]
    return dict(zip(named, in_two_processes(everybody), strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(INSTALLED))
def test_an_installed_method_passes(name: str) -> None:
    for case in INSTALLED[name]:
        merges = isinstance(case.make(), MergeRule)  # it has no training of its own
        checks = ("options", "training key", "resume", "predictors") if merges else CHECKS
        if case.around:
            checks = ("resume", "predictors") if merges else ("bytes", "resume", "predictors")
        for check in (*checks, *(AROUND if case.around else ())):
            result = run_check(check, case)
            assert result.passed, (case.name, result)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(INSTALLED))
def test_an_installed_method_is_the_same_in_two_processes(name: str, answers) -> None:
    for case in INSTALLED[name]:
        result = run_check(PROCESSES, case, answers[case.name])
        assert result.passed, (case.name, result)


@pytest.mark.slow
def test_busy_methods_send_something() -> None:
    for name in BUSY.keys() & INSTALLED.keys() - SILENT:
        assert "kB a member" in run_check("bytes", INSTALLED[name][0]).text, name


def test_a_sound_method_passes_what_the_broken_ones_do_not() -> None:
    for check in CHECKS:
        result = run_check(check, Case.of_class(broken_methods.Sound))
        assert result.passed, result


def test_a_method_without_charges_is_checked_but_for_them() -> None:
    for check in CHECKS:
        result = run_check(check, Case.of_class(broken_methods.Uncharged))
        assert result.passed, result
        if check == "bytes":
            assert "not predicted" in result.text and "kB a member" in result.text


@pytest.mark.slow
@pytest.mark.parametrize(("check", "cls", "words"), CASES)
def test_a_broken_method_fails_its_check(check: str, cls: type, words: str, request) -> None:
    answer = request.getfixturevalue("answers")[cls.__name__] if check == PROCESSES else None
    result = run_check(check, WRONG[cls], answer)
    assert not result.passed
    assert words in result.text
    assert result.fix


@pytest.mark.parametrize(("cls", "words"), broken_methods.AROUND)
def test_a_wrapper_that_passes_nothing_on_fails(cls: type, words: str) -> None:
    case = Case(cls.name, partial(_around_reference_rule, cls), around=True)
    result = run_check("passes on", case)
    assert not result.passed
    assert words in result.text


def test_every_check_has_its_broken_method() -> None:
    assert broken_methods.BROKEN.keys() == {*CHECKS, PROCESSES}


def test_the_command_tells_what_fails_and_what_to_do(capfd) -> None:
    code = run_command(["check", f"{broken_methods.__file__}:ForgetsBuffers", "--no-processes"])
    shown = capfd.readouterr().out
    assert code == 1
    line = next(line for line in shown.splitlines() if line.strip().startswith("bytes"))
    assert "FAILED" in line and "mean of buffers" in line
    assert "make charges give" in shown
    assert "sound: 1 of 11 checks failed" in shown


def test_the_command_takes_options_and_wrapped_names(capfd) -> None:
    code = run_command(["check", "papa+ema", "--set", "papa.every=3", "--no-processes"])
    shown = capfd.readouterr().out
    assert code == 0, shown
    assert "papa+ema: all 11 checks passed" in shown


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["pappa"], "did you mean 'papa'"),
        (["papa", "--set", "papa.evry=3"], "no option 'evry'"),
        (["papa", "--set", "wash.p=0.1"], "the method is 'papa'"),
        (["nowhere.py:My"], "does not exist"),
    ],
)
def test_mistakes_are_told_in_one_line(arguments: list[str], said: str, capfd) -> None:
    assert run_command(["check", *arguments]) == 2
    told = capfd.readouterr().err
    assert said in told and len(told.splitlines()) == 1
