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
from wash_bench.cli.merge import merge
from wash_bench.cli.merge_records import merge_records
from wash_bench.cli.new_method import new_method
from wash_bench.cli.options import SettingsCommand
from wash_bench.cli.paper_table import paper_table
from wash_bench.cli.plan import plan
from wash_bench.cli.prepare import prepare
from wash_bench.cli.report import report
from wash_bench.cli.run import run
from wash_bench.cli.status import status
from wash_bench.cli.tune import tune
from wash_bench.cli.verify import verify


def examples(*lines: str) -> str:
    """An epilog of worked examples; each line stands by itself."""
    return "\n\n".join(["[bold]Examples[/bold]", *lines])


app = typer.Typer(
    name="wash-bench",
    help="Compare weight-averaging methods (WASH, PAPA, DART, soups, ensembles) "
    "on one shared loop.",
    epilog=examples(
        "wash-bench run  [dim]# six methods on digits, a few minutes on two cores[/dim]",
        "wash-bench run fashion-mnist --methods wash,papa --seeds 0,1,2",
        "wash-bench plan cifar10-resnet18  [dim]# what it would cost[/dim]",
        "wash-bench report runs --out report",
    ),
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
)


def _version(asked: bool) -> None:
    if asked:
        from wash_bench import __version__

        typer.echo(f"wash-bench {__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def top(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Show the help where no command is named."""
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


app.command(
    cls=SettingsCommand,
    epilog=examples(
        "wash-bench run",
        "wash-bench run digits --methods wash,naive-ensemble --set wash.p=0.1 --seeds 0,1",
        "wash-bench run digits --methods wash --set wash.p=0.03,0.1,0.3  [dim]# a sweep[/dim]",
        "wash-bench run fashion-mnist --method my_method.py:MyMethod --jobs 2 --out runs/mine",
        "wash-bench run --preset-file mine.toml --device cuda --amp bf16",
        "wash-bench run --dataset folder:pets --image-size 64 --model resnet18 --epochs 30",
    ),
)(run)
app.command(
    cls=SettingsCommand,
    epilog=examples(
        "wash-bench plan",
        "wash-bench plan cifar100-vgg16 --population 5 --seeds 0",
        "wash-bench plan imagenet-resnet50 --methods wash,papa --set wash.p=0.01",
    ),
)(plan)
app.command(
    cls=SettingsCommand,
    epilog=examples(
        "wash-bench tune digits --grid wash.p=0.03,0.1,0.3 --grid papa.alpha=0.5,0.8 --jobs 2",
        "wash-bench tune --preset-file mine.toml --grid grids.toml --seeds 100,101 --widen",
    ),
)(tune)
app.command(
    cls=SettingsCommand,
    epilog=examples(
        "wash-bench comm --model resnet18 --stem cifar --num-classes 100 --population 5 "
        "--steps 1000",
        "wash-bench comm --model resnet50 --num-classes 1000 --image-size 224 --methods wash,papa "
        "--set wash.p=0.05 --steps 10000 --steps-per-epoch 5005 --json",
    ),
)(comm)
app.command(
    epilog=examples(
        "wash-bench report runs",
        "wash-bench report runs/digits runs/fashion --out report",
    )
)(report)
app.command(
    epilog=examples(
        "wash-bench compare report-laptop report-server",
        "wash-bench compare runs/old runs/new --out comparison.csv",
    )
)(compare)
app.command(
    cls=SettingsCommand,
    epilog=examples(
        "wash-bench export wash-test_resnet-digits-n3-s0 --which averaged-bn --out best",
        "wash-bench export runs/cells/CELL.json --which member:2 --out member2",
    ),
)(export)
app.command(
    "eval",
    cls=SettingsCommand,
    epilog=examples(
        "wash-bench eval best",
        "wash-bench eval model_best.pth.tar --model resnet50 --dataset folder:pets",
        "wash-bench eval wash-test_resnet-digits-n3-s0 --which averaged --split val",
    ),
)(evaluate)
app.command(
    cls=SettingsCommand,
    epilog=examples(
        "wash-bench merge run1 run2 run3 --dataset folder:pets",
        "wash-bench merge a.pth b.pth c.pth --model resnet50 --dataset folder:pets "
        "--methods uniform-soup,greedy-soup,fisher,model-stock --anchor pretrained.safetensors",
    ),
)(merge)
app.command(
    epilog=examples("wash-bench status runs", "wash-bench status runs/sweep --json"),
)(status)
app.command(
    cls=SettingsCommand,
    epilog=examples(
        "wash-bench verify runs",
        "wash-bench verify runs --cell wash-test_resnet-digits-n3-s0 --epochs 3",
    ),
)(verify)
app.command(
    epilog=examples("wash-bench clean runs", "wash-bench clean runs --json"),
)(clean)
app.command(
    epilog=examples("wash-bench merge-records host1/runs host2/runs --out runs/all"),
)(merge_records)
app.command(
    epilog=examples(
        "wash-bench prepare pets --out pets-prepared",
        "wash-bench prepare imagenet --out imagenet-256 --side 256 --jobs 16",
    ),
)(prepare)
app.command(
    cls=SettingsCommand,
    epilog=examples(
        "wash-bench paper-table",
        "wash-bench paper-table ablation-p --jobs 2",
        "wash-bench paper-table cifar10-resnet18 --scale paper --plan",
        "wash-bench paper-table imagenet-resnet50 --published mine.csv --scale paper",
    ),
)(paper_table)
app.command(epilog=examples("wash-bench methods", "wash-bench methods wash"))(methods)
app.command(
    epilog=examples(
        "wash-bench new-method my-rule",
        "wash-bench new-method my-soup --kind merge --out methods",
    )
)(new_method)
app.command(
    epilog=examples(
        "wash-bench check my_rule.py:MyRule",
        "wash-bench check my_rule.py:MyRule --set my-rule.every=3 --no-processes",
        "wash-bench check wash+ema",
    )
)(check)
app.command(epilog=examples("wash-bench presets", "wash-bench presets cifar10-resnet18"))(presets)
app.command(epilog=examples("wash-bench datasets", "wash-bench datasets cifar"))(datasets)
app.command(epilog=examples("wash-bench models resnet", "wash-bench models 'test_*'"))(models)

for _info in app.registered_commands:  # of all paragraphs but the first typer keeps the line ends
    _lines = cleandoc((_info.callback and _info.callback.__doc__) or "")
    _info.help = "\n\n".join(" ".join(part.split()) for part in _lines.split("\n\n"))
