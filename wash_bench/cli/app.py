"""The Typer application. Commands import what they need when they are called."""

from inspect import cleandoc
from typing import Annotated

import typer

from wash_bench.cli.check import check
from wash_bench.cli.clean import clean
from wash_bench.cli.comm import comm
from wash_bench.cli.compare import compare
from wash_bench.cli.eval import evaluate
from wash_bench.cli.export import export
from wash_bench.cli.lists import datasets, methods, models, presets
from wash_bench.cli.log import log
from wash_bench.cli.merge import merge
from wash_bench.cli.new_method import new_method
from wash_bench.cli.options import SettingsCommand, takes_any
from wash_bench.cli.paper_table import paper_table
from wash_bench.cli.plan import plan
from wash_bench.cli.prepare import prepare
from wash_bench.cli.report import report
from wash_bench.cli.run import run
from wash_bench.cli.status import status
from wash_bench.cli.tune import tune
from wash_bench.cli.verify import verify

COMMANDS = (
    *(run, plan, tune, comm, report, compare, export, evaluate, merge, status, verify, clean),
    *(log, prepare, paper_table, methods, new_method, check, presets, datasets, models),
)

app = typer.Typer(
    name="wash-bench",
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
)


def _version(wanted: bool) -> None:
    if wanted:
        from wash_bench import __version__

        typer.echo(f"wash-bench {__version__}")
        raise typer.Exit


def help_of(docstring: str) -> str:
    """Return a docstring as typer shows it: paragraphs refilled, examples line by line."""
    text, _, examples = cleandoc(docstring).partition("Examples:\n")
    paragraphs = [" ".join(part.split()) for part in text.strip().split("\n\n")]
    lines = cleandoc(f"\n{examples}").splitlines()
    return "\n\n".join([*paragraphs, "\n".join(["\b\nExamples:", *lines])])


def top(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Compare weight-averaging methods (WASH, PAPA, DART, soups, ensembles) on one shared loop.

    Examples:
        wash-bench run  # six methods on digits, a few minutes on two cores
        wash-bench run fashion-mnist --methods wash,papa --seeds 0,1,2
        wash-bench plan cifar10-resnet18  # what it would cost
        wash-bench report runs --out report
    """
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


app.callback(invoke_without_command=True, help=help_of(top.__doc__ or ""))(top)
for _command in COMMANDS:
    app.command(
        "eval" if _command is evaluate else None,
        cls=SettingsCommand if takes_any(_command) else None,
        help=help_of(_command.__doc__ or ""),
    )(_command)
