"""``wash-bench check``: the conformance suite on one method."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from wash_bench.cli import complete
from wash_bench.cli.options import DEBUG
from wash_bench.errors import UsageError

if TYPE_CHECKING:
    from wash_bench.conformance.case import CheckResult
    from wash_bench.plugins.registry import MethodEntry


def check(
    method: Annotated[
        str,
        typer.Argument(
            metavar="METHOD",
            help="path.py:Class, or a name.",
            show_default=False,
            autocompletion=complete.method,
        ),
    ],
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="METHOD.OPTION=VALUE",
            help="An option of the method, as to make it act within 40 steps; repeatable.",
            show_default="the method's own",
        ),
    ] = None,
    processes: Annotated[
        bool, typer.Option(help="Train in two processes too, which takes some seconds.")
    ] = True,
    debug: Annotated[bool, DEBUG] = False,
) -> None:
    """Check that a method holds what every method must, and say what to fix where it does not.

    A training of 40 steps on a tiny network: resumed, seeded, billed, with 1, 2 and 5 members, in
    one process and in two, merged. Exit code 1 if a check fails.

    Examples:
        wash-bench check my_rule.py:MyRule
        wash-bench check my_rule.py:MyRule --set my-rule.every=3 --no-processes
        wash-bench check wash+ema
    """
    from wash_bench.study.methods import find_methods

    (entry,) = find_methods([method], [])
    findings = _findings(entry, _options(entry, set_ or []), processes)
    _show(findings)
    _conclude(entry.name, findings)


def _options(entry: MethodEntry, given: list[str]) -> dict[str, object]:
    from wash_bench.plugins.names import parts
    from wash_bench.plugins.options import parse_set
    from wash_bench.study.methods import merge_options
    from wash_bench.study.sources import ConfigSource

    for name, options in parse_set(given).items():
        if name not in (entry.name, *parts(entry.name)):
            raise UsageError(f"--set {name}.{next(iter(options))}: the method is {entry.name!r}")
    # A mistake is told before torch is loaded.
    return merge_options([entry], [ConfigSource("", {"set": given})]).get(entry.name, {})


def _findings(entry: MethodEntry, options: dict[str, object], processes: bool) -> list[CheckResult]:
    import contextlib
    import sys

    from rich.console import Console

    from wash_bench.conformance.suite import check as findings_of

    console = Console(stderr=True)
    waiting = contextlib.nullcontext()
    if sys.stderr.isatty():
        waiting = console.status(f"checking {entry.name}")  # type: ignore[assignment]
    with waiting:
        return list(findings_of(entry, options, processes=processes))


def _conclude(name: str, findings: list[CheckResult]) -> None:
    """Count the findings in words; exit code 1 if a check failed."""
    failed = sum(not finding.passed for finding in findings)
    if failed:
        typer.echo(f"{name}: {failed} of {len(findings)} checks failed")
        raise typer.Exit(1)
    typer.echo(f"{name}: all {len(findings)} checks passed")


def _show(findings: list[CheckResult]) -> None:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    from wash_bench.cli.printing import console_for_stdout

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in ("check", "result", "what was seen", "what to do"):
        table.add_column(heading, overflow="fold")
    for finding in findings:
        result = Text("passed", "green") if finding.passed else Text("FAILED", "bold red")
        table.add_row(finding.check, result, Text(finding.text), Text(finding.fix))
    console_for_stdout().print(table)
