"""How a run is watched: a live table on a terminal and in a notebook, plain lines elsewhere."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TextIO

from wash_bench.runner.formatting import size, span

if TYPE_CHECKING:
    from rich.console import RenderableType

    from wash_bench.runner.progress import Observer, Progress

LINE_INTERVAL = 5.0  # seconds between two plain lines of one training
NOTEBOOK_INTERVAL = 0.5  # seconds between two states of a notebook's table
NOTEBOOK_ROWS = 30
HEADINGS = ("methods", "seed", "status", "epoch", "loss", "val acc", "sent", "left")
ACTIVE = ("training", "evaluating")
STYLES = {"training": "cyan", "evaluating": "blue", "finished": "green", "failed": "bold red"}


class Display(AbstractContextManager["Display"]):
    """Takes progress from any thread; used as a context for as long as the run lasts.

    By itself it shows nothing, as is right for a process that leaves telling to rank 0.
    """

    def __init__(self) -> None:
        self.rows: dict[str, Progress] = {}
        self.lock = threading.Lock()

    def __call__(self, progress: Progress) -> None:
        with self.lock:
            before = self.rows.get(progress.training)
            progress = _with_numbers(progress, before)
            self.rows[progress.training] = progress
            self.changed(progress, before)

    def changed(self, progress: Progress, before: Progress | None) -> None:
        """Called for every report, with the one before it of the same training."""

    def __exit__(self, *error: object) -> None:
        return None


def _with_numbers(progress: Progress, before: Progress | None) -> Progress:
    """A training that has ended, with the numbers that it had, where it does not tell any."""
    if before is None or progress.status not in ("finished", "failed"):
        return progress
    return replace(
        progress,
        epoch=progress.epoch or before.epoch,
        epochs=progress.epochs or before.epochs,
        loss=before.loss if progress.loss is None else progress.loss,
        val_acc=before.val_acc if progress.val_acc is None else progress.val_acc,
        sent_bytes=progress.sent_bytes or before.sent_bytes,
    )


class PlainDisplay(Display):
    """Lines without control characters: at the start, at validated epochs, at the end."""

    def __init__(self, stream: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self.stream = stream
        self.clock = clock
        self.printed: dict[str, float] = {}
        self.validated: dict[str, float] = {}  # the epoch of the last validation that was printed

    def changed(self, progress: Progress, before: Progress | None) -> None:
        key = progress.training
        if progress.status == "waiting":
            return  # of a long list that is a long way to say nothing
        if progress.status != "training":
            if before is None or before.status != progress.status:
                self._print(progress)
            return
        started = before is None or before.status != "training"
        epoch = int(progress.epoch)
        new = progress.val_acc is not None and epoch > self.validated.get(key, 0)
        rested = self.clock() - self.printed.get(key, -LINE_INTERVAL) >= LINE_INTERVAL
        if started or (new and rested):
            self.validated[key] = epoch
            self._print(progress)

    def _print(self, progress: Progress) -> None:
        self.printed[progress.training] = self.clock()
        # A reader that went away (`| head`) must not end a training whose records still count.
        with suppress(BrokenPipeError):
            self.stream.write(" ".join(line_of(progress).split()) + "\n")
            self.stream.flush()


class LiveDisplay(Display):
    """A Rich live table, a row a training."""

    def __init__(self, stream: TextIO) -> None:
        from rich.console import Console
        from rich.live import Live

        super().__init__()
        self.console = Console(file=stream)
        self.live = Live(
            console=self.console, get_renderable=self.table, refresh_per_second=4, transient=False
        )

    def __enter__(self) -> LiveDisplay:
        self.live.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self.live.refresh()
        self.live.__exit__(None, None, None)

    def table(self) -> RenderableType:
        from rich import box
        from rich.table import Table

        with self.lock:
            rows = list(self.rows.values())
        shown, hidden = fitting(rows, self.console.height - 6)
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False, caption=hidden or None)
        for heading in HEADINGS:
            side = "left" if heading in ("methods", "status") else "right"
            table.add_column(heading, justify=side, no_wrap=heading != "methods")
        for row in shown:
            table.add_row(*cells_of(row), style=STYLES.get(row.status, "dim"))
        return table


class NotebookDisplay(Display):
    """The same table as HTML, in the output of a notebook's cell."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self.clock = clock
        self.shown = -NOTEBOOK_INTERVAL
        self.handle: Any = None

    def __enter__(self) -> NotebookDisplay:
        from IPython.display import HTML, display

        self.handle = display(HTML(self.table()), display_id=True)
        return self

    def __exit__(self, *error: object) -> None:
        self._show()

    def changed(self, progress: Progress, before: Progress | None) -> None:
        if self.clock() - self.shown >= NOTEBOOK_INTERVAL:
            self.shown = self.clock()
            self._show()

    def _show(self) -> None:
        from IPython.display import HTML

        self.handle.update(HTML(self.table()))

    def table(self) -> str:
        import pandas as pd

        shown, hidden = fitting(list(self.rows.values()), NOTEBOOK_ROWS)
        frame = pd.DataFrame([cells_of(row) for row in shown], columns=list(HEADINGS))
        return frame.to_html(index=False, border=0) + hidden


def display_for_program(observer: Observer | None) -> AbstractContextManager[Observer]:
    """A program's own observer; without one a table in a notebook, and nothing elsewhere."""
    if observer is not None:
        return nullcontext(observer)
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return NotebookDisplay() if hasattr(shell, "kernel") else Display()


def display_for(stream: TextIO) -> Display:
    """A live table where ``stream`` is a terminal that can redraw it, else plain lines."""
    if stream.isatty() and os.environ.get("TERM", "").lower() not in ("dumb", "unknown", ""):
        return LiveDisplay(stream)
    return PlainDisplay(stream)


def fitting(rows: list[Progress], height: int) -> tuple[list[Progress], str]:
    """The rows that fit into ``height`` lines, running ones first, and a count of the others."""
    if len(rows) <= max(height, 1):
        return rows, ""
    rank = {"failed": 1, **dict.fromkeys(ACTIVE, 0), "waiting": 2}
    order = sorted(range(len(rows)), key=lambda i: rank.get(rows[i].status, 3))
    kept = sorted(order[: max(height, 1)])
    left = [rows[i].status for i in range(len(rows)) if i not in kept]
    counts = [f"{left.count(status)} {status}" for status in dict.fromkeys(left)]
    return [rows[i] for i in kept], "not shown: " + ", ".join(counts)


def cells_of(progress: Progress) -> list[str]:
    """One row of the table."""
    epochs = f"{progress.epoch:.1f}/{progress.epochs}" if progress.epochs else ""
    left = span(progress.seconds_left) if progress.status in ACTIVE else ""
    return [
        ", ".join(progress.methods),
        str(progress.seed),
        progress.status,
        epochs,
        "-" if progress.loss is None else f"{progress.loss:.4f}",
        "-" if progress.val_acc is None else f"{progress.val_acc:.2f} %",
        size(progress.sent_bytes),
        left,
    ]


def line_of(progress: Progress) -> str:
    """The same as one line of text."""
    parts = [f"[{', '.join(progress.methods)} seed {progress.seed}] {progress.status}"]
    if progress.status == "training" and progress.epochs:
        parts.append(f"epoch {progress.epoch:.4g}/{progress.epochs}")
    if progress.status != "cached":
        if progress.loss is not None:
            parts.append(f"loss {progress.loss:.4f}")
        if progress.val_acc is not None:
            parts.append(f"validation {progress.val_acc:.2f} %")
        if progress.sent_bytes:
            parts.append(f"sent {size(progress.sent_bytes)} a member")
    if progress.status in ACTIVE and progress.seconds_left is not None:
        parts.append(f"left {span(progress.seconds_left)}")
    if progress.status == "cached":
        parts.append("finished earlier, not trained again")
    if progress.message:
        parts.append(progress.message)
    return "  ".join(parts)
