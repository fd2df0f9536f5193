"""``wash-bench eval``: one network's scores on a data set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from wash_bench.cli.export import Runs, Which, placed
from wash_bench.cli.options import DEBUG, takes_settings

if TYPE_CHECKING:
    from wash_bench.data.source import Split
    from wash_bench.evaluate.corrupted import CorruptionPoint
    from wash_bench.models.init_checkpoint import InitCheckpoint
    from wash_bench.networks.inspect import NetworkInfo

SPLITS: tuple[Split, ...] = ("test", "val")
_CHANGES = (  # what is measured, so that a record's numbers are others
    *("classes", "model", "model_arg", "stem", "ece_bins", "amp"),
    *("image_size", "mean", "std", "interpolation", "crop_pct"),
)
_FOUND = "what the network's files say"


@takes_settings(
    *("method", "data_dir", "classes", "val_share", "model_arg", "stem", "ece_bins"),
    *("device", "amp", "threads", "download"),
    *("corruptions", "corruption_severities", "corruption_images", "corruption_dir"),
    dataset={"default": "that of the network's training"},
    model={"default": _FOUND},
    image_size={"default": _FOUND},
    mean={"default": _FOUND},
    std={"default": _FOUND},
    interpolation={"default": _FOUND},
    crop_pct={"default": _FOUND},
)
def evaluate(
    network: Annotated[
        str,
        typer.Argument(
            metavar="NETWORK",
            help="A file of weights, a folder of export, of timm's training script or of the "
            "Hugging Face hub, or a cell (its id, or its file in cells/).",
        ),
    ],
    split: Annotated[
        str, typer.Option(metavar="[test|val]", help="The images: test or validation data.")
    ] = "test",
    which: Which = "delivered",
    runs: Runs = Path("runs"),
    as_json: Annotated[
        bool, typer.Option("--json", help="Print a JSON object (default: a table).")
    ] = False,
    debug: Annotated[bool, DEBUG] = False,
    **options: Any,
) -> None:
    """Measure one network: accuracy, loss, calibration error and Brier score.

    A cell's network, and a folder that export wrote, give the numbers of the record again. Of other
    networks, size, normalization and crop are those that their files say, else those of timm's own
    weights of the architecture; options win over both.

    Examples:
        wash-bench eval best
        wash-bench eval model_best.pth.tar --model resnet50 --dataset folder:pets
        wash-bench eval wash-test_resnet-digits-n3-s0 --network averaged --split val
    """
    from wash_bench.errors import note

    images_of = _split(split, options)
    found, checkpoint, recorded = _network(network, which, runs, options)
    from wash_bench.cli.run import limit_threads
    from wash_bench.networks.inspect import in_order_of, resolved_for

    trained_on = str(found.settings.get("dataset"))
    if options.get("data_dir") and not options.get("dataset") and trained_on.startswith("folder:"):
        options["dataset"] = f"folder:{options.pop('data_dir')}"
    # One image a step: nothing is trained, so that few training images will do.
    options = {key: value for key, value in options.items() if key != "method"}
    resolved, origin = resolved_for([found], options, batch_size="1")
    if resolved.threads:
        limit_threads(resolved.threads)
    from wash_bench.models.init_checkpoint import InitCheckpoint
    from wash_bench.networks.score import corrupted_scores, network_of, scores_of
    from wash_bench.runner.context import RunContext
    from wash_bench.runner.training_setup import TrainingSetup

    context = RunContext.of(resolved)
    context.set_up_torch()
    config = resolved.config
    setting = TrainingSetup.of(config.training, resolved.download)
    setting.print_notes()
    setting.data = in_order_of([found], setting.data, config.training.dataset)
    checkpoint = checkpoint or InitCheckpoint.read(found.weights, str(found.path))
    module, about = network_of(setting, checkpoint)
    if about:
        note(f"{found.path}: {about}")
    scores = scores_of(setting, module, images_of, config.evaluation)
    corrupted = []
    if config.evaluation.corruptions:
        corrupted = corrupted_scores(setting, module, config.evaluation)
    as_recorded = not any(options.get(key) for key in _CHANGES)
    same = split == "test" and as_recorded and config.training.dataset == trained_on
    images = len(setting.data.split_labels[split])
    if as_json:
        told = {"network": network, "dataset": config.training.dataset, "split": split}
        from wash_bench.cli.printing import print_json

        points = {"corruptions": [point.as_dict() for point in corrupted]} if corrupted else {}
        print_json(told | {"images": images} | dict(scores) | points)
        return
    what = {"test": "test", "val": "validation"}[split]
    typer.echo(f"{network} on {images:,} {what} images of {config.training.dataset}")
    typer.echo(f"Images: {setting.data.described} (from {origin})")
    _print(scores, recorded if same else {})
    if corrupted:
        _print_corrupted(corrupted)


def _split(name: str, options: Mapping[str, Any]) -> Split:
    """The split of a name; a UsageError if it is none, or has no corrupted images."""
    from wash_bench.errors import UsageError, nearest

    if name != "test" and options.get("corruptions"):
        raise UsageError("--corruptions are of the test images: leave --split out")
    for known in SPLITS:
        if known == name:
            return known
    raise UsageError(f"--split {name}: {nearest(name, SPLITS)}")


def _network(
    named: str, which: str, runs: Path, options: dict[str, Any]
) -> tuple[NetworkInfo, InitCheckpoint | None, Mapping[str, float]]:
    """What is evaluated; of a cell with its weights and what its record says of them."""
    from wash_bench.errors import UsageError
    from wash_bench.networks.inspect import find

    path = Path(named).expanduser()
    if path.exists() and path.suffix != ".json":
        if which != "delivered":
            raise UsageError(f"--network {which}: {named} is no cell, it has one network")
        found = find(path)
        return found, None, found.recorded
    if not path.exists() and (path.suffix or len(path.parts) > 1 or not runs.is_dir()):
        raise UsageError(f"{named}: there is no such file or folder, nor a cell of {runs}")
    from wash_bench.networks.cell_network import found_of, load_network
    from wash_bench.runner.recorded import find_cell
    from wash_bench.study.local import LocalConfig

    # What is measured with is no part of how the cell's own network is found and made.
    own = {*LocalConfig.model_fields, "device", *(() if options.get("dataset") else ("data_dir",))}
    here = {key: value for key, value in options.items() if key in own}
    cell, context, methods = placed(find_cell(named, runs), here)
    if cell.config.training.dataset.startswith("folder:") and "data_dir" in here:
        del options["data_dir"]
    stored = load_network(cell, which, context, methods)
    return *found_of(stored, named), stored.recorded


def _print_corrupted(points: Sequence[CorruptionPoint]) -> None:
    """Means over the severities, and over all corruptions."""
    from statistics import fmean

    from wash_bench.cli.printing import print_rows

    names = dict.fromkeys(point.corruption for point in points)
    rows = []
    for title, own in [
        *((name, [point for point in points if point.corruption == name]) for name in names),
        ("all", list(points)),
    ]:
        scores = (fmean(p.accuracy for p in own), fmean(p.loss for p in own))
        rows.append((title, f"{scores[0]:.2f}", f"{scores[1]:.4f}"))
    severities = ", ".join(map(str, dict.fromkeys(point.severity for point in points)))
    typer.echo(f"On {points[0].images:,} corrupted test images, means over severities {severities}")
    headings = ("corruption", "accuracy (%)", "loss (nats)")
    print_rows(headings, rows, right=headings[1:])


def _print(scores: Mapping[str, float], recorded: Mapping[str, float]) -> None:
    from wash_bench.cli.printing import print_rows
    from wash_bench.networks.timm_folder import told

    rows = told(scores)
    if not recorded:
        print_rows(("score", "value"), rows, right=("value",))
        return
    before = dict(told(recorded))
    kept = [score for score in scores if score in recorded]
    equal = ["yes" if scores[score] == recorded[score] else "no" for score in kept]
    print_rows(
        ("score", "value", "recorded", "the same bits"),
        [(title, value, before.get(title, ""), *equal[i : i + 1]) for i, (title, value)
         in enumerate(rows)],
        right=("value", "recorded"),
    )  # fmt: skip
