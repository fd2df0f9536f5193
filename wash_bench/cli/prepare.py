"""``wash-bench prepare``: decode a folder of images once, for trainings that read them often."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Literal

import typer

from wash_bench.cli.options import DEBUG

TOLD_EVERY = 10.0  # seconds, where there is no bar


def prepare(
    folder: Annotated[
        Path, typer.Argument(metavar="FOLDER", help="The folder with train/ and val/.")
    ],
    out: Annotated[
        Path,
        typer.Option(
            metavar="DIR", help="Folder that receives the decoded images.", show_default=False
        ),
    ],
    side: Annotated[
        int,
        typer.Option(
            metavar="PX",
            min=0,
            help="Resize what is larger to so many pixels of its shorter side. 0 keeps all images "
            "as they are: a training then is the same, bit by bit, as on the folder itself.",
        ),
    ] = 0,
    interpolation: Annotated[
        Literal["bilinear", "bicubic", "lanczos", "box", "hamming", "nearest"],
        typer.Option(help="How --side resizes."),
    ] = "bilinear",
    jobs: Annotated[
        int | None,
        typer.Option(metavar="J", min=1, help="Processes that decode.", show_default="all cores"),
    ] = None,
    debug: Annotated[bool, DEBUG] = False,
) -> None:
    """Decode all images of a folder once; a population reads each of them once a member.

    The result takes 3 bytes a pixel: an image of 500 x 375 pixels 0.56 MB, with --side 256 0.26
    MB. A killed command goes on where it stood; on a finished folder it compares every byte. Use
    it with --dataset folder:DIR, or as --data-dir of imagenet where --side is 0.

    Examples:
        wash-bench prepare pets --out pets-prepared
        wash-bench prepare imagenet --out imagenet-256 --side 256 --jobs 16
    """
    from wash_bench.cores import cores
    from wash_bench.data.prepare import prepare as make
    from wash_bench.runner.formatting import size

    with _progress() as report:
        index, whole = make(
            folder.expanduser(),
            out.expanduser(),
            side=side,
            interpolation=interpolation,
            jobs=jobs or cores(),
            report=report,
        )
    state = "is whole: every byte is as it was written" if whole else "is ready"
    typer.echo(
        f"{out} {state}; {index.images:,} images of {len(index.classes)} classes, ", nl=False
    )
    typer.echo(f"{size(index.size)}. Use it with --dataset folder:{out}")


@contextmanager
def _progress() -> Iterator[Callable[[int, int], None]]:
    """A bar in a terminal; else a line now and then. On stderr."""
    if sys.stderr.isatty():
        from rich.console import Console
        from rich.progress import MofNCompleteColumn, Progress, TimeRemainingColumn

        columns = (
            *Progress.get_default_columns()[:-1],
            MofNCompleteColumn(),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
            task = bar.add_task("images", total=None)
            yield lambda done, total: bar.update(task, completed=done, total=total)
        return
    told = time.monotonic()

    def line(done: int, total: int) -> None:
        nonlocal told
        if time.monotonic() - told >= TOLD_EVERY:
            told = time.monotonic()
            typer.echo(f"{done:,} of {total:,} images", err=True)

    yield line
