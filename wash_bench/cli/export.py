"""``wash-bench export``: a cell's network as a folder that timm loads."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from wash_bench.cli.options import DEBUG, takes_settings

if TYPE_CHECKING:
    from wash_bench.runner.recorded import CellRecord

WHICH = "delivered|averaged|averaged-bn|greedy-soup|member:K"
Runs = Annotated[
    Path,
    typer.Option(
        metavar="DIR", help="Run folder, or folder of some, in which CELL's id is looked up."
    ),
]
Which = Annotated[
    str,
    typer.Option(
        "--network",
        metavar=WHICH,
        help="The network that the method delivers, the average of the members, the same with "
        "BatchNorm re-estimated, the greedy soup, or a member by its number.",
    ),
]


@takes_settings("method", "data_dir", "device", "threads", "download")
def export(
    cell: Annotated[
        str,
        typer.Argument(
            metavar="CELL", help="A cell: its id, the beginning of it, or its file in cells/."
        ),
    ],
    out: Annotated[
        Path,
        typer.Option(metavar="DIR", help="Folder that receives the network.", show_default=False),
    ],
    runs: Runs = Path("runs"),
    which: Which = "delivered",
    debug: Annotated[bool, DEBUG] = False,
    **options: Any,
) -> None:
    """Write a finished cell's network for timm: model.safetensors, config.json and a model card.

    timm.create_model("local-dir:DIR", pretrained=True) loads it, with the number of classes, input
    size, normalization and crop that it was measured with.

    Examples:
        wash-bench export wash-test_resnet-digits-n3-s0 --network averaged-bn --out best
        wash-bench export runs/cells/CELL.json --network member:2 --out member2
    """
    from wash_bench.runner.recorded import find_cell
    from wash_bench.study.checks import check_folder

    check_folder(out, "--out")
    found = find_cell(cell, runs)
    found, context, methods = placed(found, options)
    from wash_bench.errors import note
    from wash_bench.networks.cell_network import load_network
    from wash_bench.networks.timm_folder import Export, small_stem, write_folder

    network = load_network(found, which, context, methods)
    cell_id, dataset = found.data["cell_id"], found.config.training.dataset
    written = write_folder(
        Export(
            setting=network.setting,
            tensors=network.tensors,
            about=f"{network.about}, of the cell {cell_id}",
            scores=network.scores,
            commands=(
                ("wash-bench", "export", cell_id, "--network", which, "--out", "DIR"),
                ("wash-bench", "eval", "DIR", "--dataset", dataset),
            ),
        ),
        out,
    )
    if small_stem(network.setting):
        note(
            "timm cannot build the papers' stem for small images by name, so that create_model "
            f"refuses these weights; {out / 'README.md'} has the lines that build it"
        )
    typer.echo(f"Written to {out}: {', '.join(path.name for path in written)}")


def placed(cell: CellRecord, options: dict[str, Any]) -> tuple[CellRecord, Any, tuple[str, ...]]:
    """A cell where this machine has its device and data, how work is carried out, and methods."""
    from dataclasses import replace

    from wash_bench.cli.run import limit_threads
    from wash_bench.data.catalog import FOLDER_PREFIX
    from wash_bench.runner.context import RunContext
    from wash_bench.study.resolve import given, local_config

    said = given(options)
    moved = {key: said.pop(key) for key in ("data_dir", "device") if key in said}
    local = local_config(said)
    if local.threads:
        limit_threads(local.threads)
    config = cell.config
    dataset = config.training.dataset
    if dataset.startswith(FOLDER_PREFIX) and "data_dir" in moved:
        moved["dataset"] = FOLDER_PREFIX + moved.pop("data_dir")
    training = config.training.model_copy(update=moved)
    cell = replace(cell, config=config.model_copy(update={"training": training}))
    return cell, RunContext.of(local), local.method
