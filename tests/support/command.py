"""The command line, called in this process."""

from __future__ import annotations

from wash_bench.cli.main import run_command


def command(capsys, *arguments: str) -> tuple[int, str, str]:
    code = run_command(arguments)
    captured = capsys.readouterr()
    return code, captured.out, captured.err
