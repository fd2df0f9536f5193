"""``wash-bench clean``: remove what a run folder does not need any more."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from wash_bench.cli.options import DEBUG

if TYPE_CHECKING:
    from wash_bench.record.prune import Item


def clean(
    runs: Annotated[Path, typer.Argument(metavar="RUNS", help="Run folder, or folder of some.")],
    yes: Annotated[
        bool, typer.Option("--yes", "-y", help="Remove all that is listed, unasked (default: ask).")
    ] = False,
    as_json: Annotated[
        bool,
        typer.Option("--json", help="List as a JSON object and remove nothing (default: no)."),
    ] = False,
    debug: Annotated[bool, DEBUG] = False,
) -> None:
    """List what of run folders can go, and remove it after asking, kind by kind.

    These are members of finished trainings, records of failed cells, and what killed processes left
    behind. What a report, or the same command again, would read is never removed. Refused while a
    run works on a folder.

    Examples:
        wash-bench clean runs
        wash-bench clean runs --json
    """
    _check(yes, as_json)
    from wash_bench.record.folders import some_run_folders
    from wash_bench.record.prune import prune, removable

    found = {folder: removable(folder) for folder in some_run_folders(runs)}
    if as_json:
        from wash_bench.cli.printing import print_json

        print_json({"folders": [_data(*each) for each in found.items()]})
        return
    if not any(found.values()):
        typer.echo(f"{runs}: nothing can go")
        return
    from wash_bench.runner.formatting import size

    _print([item for items in found.values() for item in items])
    chosen = _chosen(found, yes)
    freed = sum(
        prune(folder, [item for item in items if item.kind in chosen])
        for folder, items in found.items()
    )
    typer.echo(f"Removed: {size(freed)}" if chosen else "Nothing removed")


def _chosen(found: dict[Path, list[Item]], yes: bool) -> list[str]:
    """The kinds that the user wants to be rid of."""
    from wash_bench.errors import UsageError
    from wash_bench.record.prune import KINDS
    from wash_bench.runner.formatting import size

    chosen = []
    for kind, what in KINDS.items():
        items = [item for each in found.values() for item in each if item.kind == kind]
        if not items:
            continue
        told = f"{kind}: {len(items):,} of {size(sum(item.size for item in items))} ({what})"
        if yes:
            typer.echo(told)
        try:
            if yes or typer.confirm(f"Remove {told}?"):
                chosen.append(kind)
        except typer.Abort:
            raise UsageError("no answer: --yes removes what is listed unasked") from None
    return chosen


def _print(items: list[Item]) -> None:
    from wash_bench.cli.printing import print_rows
    from wash_bench.runner.formatting import size

    rows = [(item.kind, size(item.size), str(item.path), item.about) for item in items]
    print_rows(("kind", "size", "path", "what it is"), rows, right=("size",))


def _check(yes: bool, as_json: bool) -> None:
    """Refuse, with a UsageError, to list and to remove at once."""
    from wash_bench.errors import UsageError

    if yes and as_json:
        raise UsageError("--json lists and removes nothing: leave --yes out")


def _data(folder: Path, items: list[Item]) -> dict[str, Any]:
    told = [
        {"kind": item.kind, "path": str(item.path), "bytes": item.size, "about": item.about}
        for item in items
    ]
    return {"folder": str(folder), "bytes": sum(item.size for item in items), "items": told}
