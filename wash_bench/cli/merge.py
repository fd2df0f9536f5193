"""``wash-bench merge``: networks that were trained elsewhere, merged and compared."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from wash_bench.api.networks import OUT, RULES
from wash_bench.cli.options import DEBUG, takes_settings
from wash_bench.study.merge_options import OF_MERGE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from wash_bench.api.networks import MergedNetworks
    from wash_bench.networks.ranking import Row

_FOUND = "what the networks' files say"


@takes_settings(
    *OF_MERGE,
    *("method", "set", "threads", "download", "report"),
    dataset={"default": "that of the networks' training, where a file says it"},
    methods={
        "default": RULES,
        "help": "Merge rules, separated by commas (see wash-bench methods --kind merge).",
    },
    model={"default": _FOUND},
    image_size={"default": _FOUND},
    mean={"default": _FOUND},
    std={"default": _FOUND},
    interpolation={"default": _FOUND},
    crop_pct={"default": _FOUND},
    out={"default": OUT},
)
def merge(
    networks: Annotated[
        list[Path],
        typer.Argument(
            metavar="NETWORKS...",
            help="Files of weights, or folders of timm's training script, of export or of the "
            "Hugging Face hub; two or more.",
        ),
    ],
    anchor: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="The network that all of them were fine-tuned from, for rules that need it.",
            show_default="none",
        ),
    ] = None,
    debug: Annotated[bool, DEBUG] = False,
    **options: Any,
) -> None:
    """Merge networks that were trained elsewhere, compare the merges, and export the best network.

    Nothing is trained. Members, ensemble, merges and the barriers between all pairs are measured
    and recorded as of a run; the best network, chosen by validation data, is in OUT/best.

    Examples:
        wash-bench merge run1 run2 run3 --dataset folder:pets
        wash-bench merge a.pth b.pth c.pth --model resnet50 --dataset folder:pets
        wash-bench merge run1 run2 --methods model-stock --anchor pretrained.safetensors
    """
    from wash_bench.api.networks import merged, to_merge
    from wash_bench.cli.run import end_if_failed, keeping, limit_threads

    these = to_merge(networks, options, anchor)
    if these.resolved.threads:
        limit_threads(these.resolved.threads)
    from wash_bench.api.display import display_for

    with keeping(), display_for(sys.stdout) as display:
        done = merged(these, display, debug=debug)
    typer.echo(f"Images: {done.merged.setting.data.described} (from {these.origin})")
    _print(done.rows, done.names, done.matrix)
    dataset = these.config.training.dataset
    # Of trainings of this package, whose validation images were held out.
    _tell(done, all(item.settings.get("dataset") == dataset for item in these.found))
    typer.echo(f"Written to {done.folder}: best/, networks.csv, barriers.csv, cells/, trainings/")
    if these.resolved.report:
        from wash_bench.report.write import write_report

        write_report([done.folder], done.folder / "report")
        typer.echo(f"Report: {done.folder / 'report'}")
    end_if_failed(done.merged.outcome.failed, "the same command tries failed merges again")


def _tell(done: MergedNetworks, held_out: bool) -> None:
    """What the ensemble scores, why the average of all falls where it does, and the best one."""
    typer.echo(f"Ensemble of all: test {done.merged.summary['ensemble_acc']:.2f} %")
    if text := done.diagnose_drop():
        typer.echo(f"The average of all: {text}.")
    images = len(done.merged.setting.data.split_labels["val"])
    aside = "" if held_out else "; a part of train/, which networks may have been trained on"
    typer.echo(
        f"Best by {images:,} validation images (--val-share{aside}): "
        f"{done.best.network}, BatchNorm {done.best.batchnorm}"
    )
    if text := _verdict(done.rows, done.best, images):
        typer.echo(text)


def _verdict(rows: Sequence[Row], best: Row, images: int) -> str:
    """Whether the best merge beats the best member on validation data; "" without a merge."""
    from wash_bench.networks.ranking import best_of, margin

    member, merge = best_of(rows, "member"), best_of(rows, "merge")
    if member is None or merge is None:
        return ""
    lead, error = merge.val_acc - member.val_acc, margin(member, merge, images)
    if best.kind == "merge":
        return f"{merge.network} beats the best member, {member.network}, by {lead:.2f} points."
    return (
        f"No merge beats the best member by more than one standard error, {error:.2f} points: "
        f"{merge.network} is {lead:+.2f} points from {member.network}."
    )


def _print(rows: Sequence[Row], names: Sequence[str], matrix: Sequence[Sequence[float]]) -> None:
    from wash_bench.cli.printing import print_rows

    headings = ("network", "BatchNorm", "validation %", "test %", "loss", "ECE %")
    lines = [
        (row.network, row.batchnorm, f"{row.val_acc:.2f}", f"{row.acc:.2f}", f"{row.nll:.4f}",
         f"{row.ece:.2f}")
        for row in rows
    ]  # fmt: skip
    print_rows(headings, lines, right=headings[2:])
    typer.echo("Loss barriers between the networks, in nats, BatchNorm statistics averaged:")
    columns = [str(index) for index in range(len(names))]
    print_rows(
        ("", "network", *columns),
        [(column, name, *(f"{height:.3f}" for height in heights))
         for column, name, heights in zip(columns, names, matrix, strict=True)],
        right=columns,
    )  # fmt: skip
