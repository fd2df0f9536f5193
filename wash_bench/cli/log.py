"""``wash-bench log``: finished trainings, sent to a tracker afterwards."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from wash_bench.cli.options import DEBUG


def log(
    runs: Annotated[
        Path, typer.Argument(metavar="RUNS", help="Run folder, or folder that holds some.")
    ] = Path("runs"),
    to: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="csv, tensorboard, wandb, mlflow, or a logger of your own as path.py:Class; "
            "NAME+layers sends the series of single layers too; repeatable.",
        ),
    ] = None,
    debug: Annotated[bool, DEBUG] = False,
) -> None:
    """Send finished trainings and their results to trackers, as run --log does meanwhile.

    What a tracker has got already is not sent again.

    Examples:
        wash-bench log runs --to wandb
        wash-bench log runs --to tensorboard --to mlflow
    """
    from wash_bench.errors import UsageError, note
    from wash_bench.loggers.feed import check_loggers, send_training
    from wash_bench.record.folders import some_run_folders
    from wash_bench.record.store import Store

    if not to:
        raise UsageError("--to names no logger: csv, tensorboard, wandb, mlflow or path.py:Class")
    check_loggers(to)
    sent = 0
    for root in some_run_folders(runs):
        store = Store(root)
        trainings: dict[str, list[dict]] = {}
        for path in sorted(root.glob("cells/*.json")):
            record = store.cell(path.stem)
            if record and record["status"] == "finished":
                trainings.setdefault(record["training_id"], []).append(record)
        for training_id, records in trainings.items():
            send_training(store.training(training_id), records, to, note)
        sent += len(trainings)
    typer.echo(f"Sent to {', '.join(to)}: {sent} trainings of {runs}, as far as they were new.")
