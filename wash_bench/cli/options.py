"""The options of ``run`` and ``plan``: one table, from which the signatures are made.

The names are also the keys of preset files. ``default`` is what holds when no preset decides.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from wash_bench.settings.presets import preset_names

WHAT, NETWORK, TRAINING = "What to run", "Data and network", "Training"
MACHINE, RECORD, MEASURE = "Machine", "Records and output", "Validation and evaluation"


@dataclass(frozen=True)
class Opt:
    """One option.

    Attributes:
        key: its key in a preset file, with underscores.
        type: its type; numbers reach the resolver as text, which is checked there like a preset's.
        help: what it does, with the unit.
        panel: heading under which the help shows it.
        metavar: placeholder of the value.
        default: the value where neither option nor preset says anything, as text.
        preset: whether presets decide it.
        choices: the values it may take, for the help and shell completion.
        off: the flag that negates it, for booleans.
    """

    key: str
    type: Any
    help: str
    panel: str
    metavar: str = ""
    default: str = ""
    preset: bool = True
    choices: tuple[str, ...] = ()
    off: str = ""

    @property
    def flag(self) -> str:
        return "--" + self.key.replace("_", "-")

    def parameter(self) -> inspect.Parameter:
        shown = f"the preset's, else {self.default}" if self.preset else self.default
        declaration = f"{self.flag}/{self.off}" if self.off else self.flag
        info = typer.Option(
            declaration,
            help=self.help,
            metavar=f"[{'|'.join(self.choices)}]" if self.choices else self.metavar or None,
            rich_help_panel=self.panel,
            show_default=shown or False,
            autocompletion=_completer(self.choices) if self.choices else None,
        )
        return inspect.Parameter(
            self.key,
            inspect.Parameter.KEYWORD_ONLY,
            default=None,
            annotation=Annotated[(str if self.type in (int, float) else self.type) | None, info],
        )


def _completer(names: tuple[str, ...]) -> Callable[[str], list[str]]:
    def complete(incomplete: str) -> list[str]:
        return [name for name in names if name.startswith(incomplete)]

    return complete


def _complete_preset(incomplete: str) -> list[str]:
    return [name for name in preset_names() if name.startswith(incomplete)]


METHODS = "wash,wash-opt,papa,dart,greedy-soup,naive-ensemble"

RUN_OPTIONS = (
    Opt("methods", str, "Methods to compare, separated by commas (see wash-bench methods).",
        WHAT, "NAMES", "all six"),
    Opt("method", list[str], "A method of your own, as path.py:Class, beside --methods; "
        "repeatable.", WHAT, "FILE:CLASS", "none"),
    Opt("set", list[str], "An option of a method, as wash.p=0.05 (see wash-bench methods wash); "
        "repeatable.", WHAT, "METHOD.OPTION=VALUE", "the method's own"),
    Opt("coupling_budget", str, "Take the methods' coupling as it is given, or the papers', scaled "
        "so that a coordinate is exchanged as often in the whole training (a preset's own is left "
        "out; --set is read as of the papers' training).", WHAT, default="given",
        choices=("given", "paper")),
    Opt("seeds", str, "Seeds of the trainings, separated by commas; each method runs once a "
        "seed.", WHAT, "LIST", "0"),
    Opt("population", int, "Members N of a population, at least 2.", WHAT, "N", "3"),
    Opt("init", str, "Initial weights: each member its own (independent), all the same (shared), "
        "or all those of a file, to fine-tune them.", WHAT,
        "independent|shared|checkpoint:PATH", "independent"),
    Opt("vary", list[str], "A hyperparameter that differs between members, with its values: lr, "
        "weight_decay, mixup, cutmix, label_smoothing, random_erasing; repeatable, and each "
        "member draws a combination.", WHAT, "NAME=V1,V2,...", "none"),
    Opt("preset_file", Path, "Your own preset, a TOML file whose keys are the options' names "
        "(without PRESET it stands alone, else it is laid over it).", WHAT, "FILE", "none", False),
    Opt("dataset", str, "Data set (see wash-bench datasets), or folder:PATH with train/ and val/ "
        "class folders.", NETWORK, "NAME", "digits"),
    Opt("data_dir", str, "Folder that holds, or receives, the data.", NETWORK, "DIR",
        "the user's cache"),
    Opt("download", bool, "Download missing data.", NETWORK, default="no", off="--no-download"),
    Opt("classes", str, "Use only these classes, by their numbers, as 0-4 or 0,2,5.", NETWORK,
        "LIST", "all"),
    Opt("train_limit", int, "Use only so many training images (0: all).", NETWORK, "IMAGES", "0"),
    Opt("image_size", int, "Resize images to this side in pixels (0: as they are).", NETWORK,
        "PIXELS", "0"),
    Opt("model", str, "Architecture: any that timm knows (see wash-bench models).", NETWORK,
        "NAME", "test_resnet"),
    Opt("model_arg", list[str], "A further argument of timm.create_model; repeatable.", NETWORK,
        "KEY=VALUE", "none"),
    Opt("stem", str, "How the network begins: as timm has it (keep), with the papers' stem for "
        "small images (cifar), or by the image size (auto).", NETWORK, default="auto",
        choices=("auto", "keep", "cifar")),
    Opt("augment", str, "Crop and flip for all members, or besides it the papers' draw of mixup, "
        "CutMix, erasing and smoothing, another for each member.", NETWORK,
        default="homogeneous", choices=("homogeneous", "heterogeneous")),
    Opt("epochs", int, "Length of a training in epochs.", TRAINING, "EPOCHS", "20"),
    Opt("linear_probe", int, "First epochs in which only the classifier is trained, once for all "
        "members.", TRAINING, "EPOCHS", "0"),
    Opt("batch_size", int, "Images a step and member.", TRAINING, "IMAGES", "64"),
    Opt("optimizer", str, "Optimizer.", TRAINING, default="sgd", choices=("sgd", "adamw")),
    Opt("lr", float, "Learning rate at the start of the schedule.", TRAINING, "RATE", "0.1"),
    Opt("schedule", str, "Learning rate over the steps: cosine to --lr-min, constant, or a tenth "
        "at each of --milestones.", TRAINING, default="cosine",
        choices=("cosine", "constant", "multistep")),
    Opt("lr_min", float, "Learning rate at the end of the cosine.", TRAINING, "RATE", "0.0001"),
    Opt("milestones", str, "Where multistep lowers the rate, as shares of the training, separated "
        "by commas.", TRAINING, "LIST", "0.5,0.75"),
    Opt("momentum", float, "Momentum of SGD, from 0 to below 1.", TRAINING, "SHARE", "0.9"),
    Opt("weight_decay", float, "Weight decay, on all parameters.", TRAINING, "RATE", "0.0001"),
    Opt("val_share", float, "Share of the training images that is held out for selections.",
        MEASURE, "SHARE", "0.02"),
    Opt("eval_every", int, "Epochs between validations.", MEASURE, "EPOCHS", "1"),
    Opt("barrier_points", int, "Points along a segment, both ends included.", MEASURE, "POINTS",
        "21"),
    Opt("barrier_split", str, "Images on which loss barriers are measured.", MEASURE,
        default="test", choices=("train", "val", "test")),
    Opt("barrier_images", int, "How many of them (0: all).", MEASURE, "IMAGES", "1000"),
    Opt("barrier_bn_images", int, "Images that re-estimate BatchNorm at each barrier point.",
        MEASURE, "IMAGES", "1280"),
    Opt("simplex_points", int, "Measure loss and accuracy over the triangle between three members "
        "too, with so many points along an edge (0: do not).", MEASURE, "POINTS", "0"),
    Opt("simplex_margin", float, "How far the triangle goes on beyond the members, as a share of "
        "its edge.", MEASURE, "SHARE", "0"),
    Opt("bn_images", int, "Images that re-estimate BatchNorm elsewhere (0: the training data).",
        MEASURE, "IMAGES", "0"),
    Opt("ece_bins", int, "Bins of the expected calibration error.", MEASURE, "BINS", "15"),
    Opt("device", str, "auto, cpu, cuda, cuda:1 or mps.", MACHINE, "NAME", "auto"),
    Opt("amp", str, "Mixed precision of forward and backward pass.", MACHINE, default="off",
        choices=("off", "bf16", "fp16")),
    Opt("channels_last", bool, "Keep convolution weights channels-last (faster).", MACHINE,
        default="yes", off="--no-channels-last"),
    Opt("jobs", int, "Trainings side by side on this machine.", MACHINE, "J", "1"),
    Opt("procs", int, "Processes that share each population, at most N; torchrun starts them on "
        "several machines.", MACHINE, "R", "1"),
    Opt("threads", int, "CPU threads of each job or process (0: the cores divided by them).",
        MACHINE, "THREADS", "0"),
    Opt("worker", bool, "Work beside other workers, on any hosts, that were given the same command "
        "and share the run folder.", MACHINE, default="no", off="--no-worker"),
    Opt("stale", int, "A worker that gives no sign of life for so long is replaced; at least 10.",
        MACHINE, "SECONDS", "120"),
    Opt("shard", str, "Only the i-th of k shares of the trainings, without a shared folder; "
        "wash-bench report joins them.", MACHINE, "I/K", "1/1"),
    Opt("out", str, "Folder of the records; what is finished there is not trained again.", RECORD,
        "DIR", "runs"),
    Opt("checkpoint_every", int, "Epochs between checkpoints, from which a killed run goes on.",
        RECORD, "EPOCHS", "1"),
    Opt("retry_failed", bool, "Train cells that failed before again.", RECORD, default="no",
        off="--no-retry-failed"),
    Opt("report", bool, "Write the report at the end.", RECORD, default="yes", off="--no-report"),
    Opt("debug", bool, "Show the traceback of an error.", RECORD, default="no", preset=False),
)  # fmt: skip

DEBUG = typer.Option("--debug", help="Show the traceback of an error (default: no).")


def with_run_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Give ``function(preset, **options)`` the signature that the table describes."""
    preset = inspect.Parameter(
        "preset",
        inspect.Parameter.POSITIONAL_OR_KEYWORD,
        default=None,
        annotation=Annotated[
            str | None,
            typer.Argument(
                metavar="PRESET",
                help="Settings to start from (see wash-bench presets).",
                show_default="digits",
                autocompletion=_complete_preset,
            ),
        ],
    )
    parameters = [preset, *(option.parameter() for option in RUN_OPTIONS)]
    function.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    function.__annotations__ = {item.name: item.annotation for item in parameters}
    return function
