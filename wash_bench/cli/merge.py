"""``wash-bench merge``: networks that were trained elsewhere, merged and compared."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from wash_bench.cli.options import DEBUG, takes_settings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from wash_bench.networks.merge import Merged
    from wash_bench.networks.rows import Row, Rows

RULES = "uniform-soup,greedy-soup"
OUT = "merged"
_AGAIN = "the same command tries failed merges again"
# An average so many points below its members is explained.
_BELOW = 1.0
_FOUND = "what the networks' files say"


@takes_settings(
    *("method", "set", "data_dir", "classes", "train_limit", "val_share", "model_arg", "stem"),
    *("barrier_points", "barrier_split", "barrier_images", "barrier_bn_images", "bn_images"),
    *("ece_bins", "simplex_points", "simplex_margin"),
    *("device", "amp", "threads", "download", "report"),
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
    """
    from wash_bench.cli.run import end_if_failed, keeping, limit_threads
    from wash_bench.networks.found import find
    from wash_bench.networks.inputs import resolved_for
    from wash_bench.settings.checks import check_folder, check_start
    from wash_bench.settings.resolve import given

    said = {"methods": RULES, "out": OUT} | given(options)
    check_folder(Path(said["out"]), "--out")
    found = [find(path) for path in networks]
    from wash_bench.networks.merge import check_methods, member_names, paths_of

    files = paths_of(found)
    start = f"checkpoint:{find(anchor).weights}" if anchor else "independent"
    fixed = {"population": str(len(found)), "init": start, "batch_size": "2"}
    resolved, origin = resolved_for(found, said, **fixed)
    training = resolved.config.training.model_copy(update={"members": files})
    config = resolved.config.model_copy(update={"training": training})
    check_start(training)
    check_methods(resolved)
    if resolved.threads:
        limit_threads(resolved.threads)
    from wash_bench.cli.display import display_for
    from wash_bench.networks.merge import merge as merge_networks
    from wash_bench.networks.rows import Rows, write_barriers
    from wash_bench.runner.context import RunContext

    names = member_names(found)
    with keeping():
        with display_for(sys.stdout) as display:
            context = RunContext.of(resolved, debug=debug, observer=display)
            merged = merge_networks(config, resolved.entries, found, context)
        failed = merged.outcome.failed
        if not merged.summary:  # not even the members could be measured
            end_if_failed(failed, _AGAIN)
        rows = Rows(merged, names, context, context.out / "networks.csv")
        matrix = write_barriers(merged, names, context.out / "barriers.csv")
        _export(merged, rows, context.out / "best", networks)
    typer.echo(f"Images: {merged.setting.data.described} (from {origin})")
    _print(rows.rows, names, matrix)
    held_out = all(
        item.settings.get("dataset") == config.training.dataset for item in found
    )  # of trainings of this package
    _tell(merged, rows.best, held_out)
    typer.echo(f"Written to {context.out}: best/, networks.csv, barriers.csv, cells/, trainings/")
    if resolved.report:
        from wash_bench.report.write import write_report

        write_report([context.out], context.out / "report")
        typer.echo(f"Report: {context.out / 'report'}")
    end_if_failed(failed, _AGAIN)


def _tell(merged: Merged, best: Row, held_out: bool) -> None:
    """What the ensemble scores, why the average of all falls where it does, and the best one."""
    from wash_bench.report.causes import why

    summary = merged.summary
    typer.echo(f"Ensemble of all: test {summary['ensemble_acc']:.2f} %")
    if text := why(summary, _BELOW):
        typer.echo(f"The average of all: {text}.")
    images = len(merged.setting.data.split_labels["val"])
    aside = "" if held_out else "; a part of train/, which networks may have been trained on"
    typer.echo(
        f"Best by {images:,} validation images (--val-share{aside}): "
        f"{best.network}, BatchNorm {best.batchnorm}"
    )


def _export(merged: Merged, rows: Rows, out: Path, networks: list[Path]) -> None:
    """The best network for timm, unless it is there already."""
    from wash_bench.networks.found import recorded_in
    from wash_bench.networks.timm_folder import Export, write_folder

    best, training = rows.best, merged.setting.config
    methods = ",".join(cell.method for cell in merged.task.cells)
    scores = {score: getattr(best, score) for score in ("acc", "nll", "ece", "brier")}
    if recorded_in(out) == scores:
        return
    write_folder(
        Export(
            setting=merged.setting,
            tensors=rows.best_tensors(),
            about=f"network {best.network} of {len(networks)}, BatchNorm statistics "
            f"{best.batchnorm}, chosen by validation accuracy ({best.val_acc:.2f} %)",
            scores=scores,
            commands=(
                f"wash-bench merge {' '.join(path.name for path in networks)} --dataset "
                f"{training.dataset} --methods {methods}",
                f"wash-bench eval DIR --dataset {training.dataset}",
            ),
        ),
        out,
    )


def _print(rows: Sequence[Row], names: list[str], matrix: list[list[float]]) -> None:
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
