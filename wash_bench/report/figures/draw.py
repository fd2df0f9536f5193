"""Draw a report's figures: those whose data changed, with the help of other processes.

The helpers import matplotlib while the records are read, and draw while the tables are written;
then this process draws too. Who draws a figure claims it first, by a file beside the figures.
"""

from __future__ import annotations

import pickle
import subprocess
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import IO, TYPE_CHECKING, Self, cast

from wash_bench.cores import cores
from wash_bench.report.figures.catalogue import ALL, FORMATS, Asked, asked, write_figure
from wash_bench.report.style import made_for, paper_name

if TYPE_CHECKING:
    from wash_bench.report.kept import Drawn
    from wash_bench.report.read.frames import Records

MOST = 3  # helpers; a report has few figures that take long
# Not as -m would find it: the code is the one that runs here, wherever that comes from.
_HELP = (
    "import sys; sys.path[:] = {}; "
    "from wash_bench.report.figures.draw import help_drawing; help_drawing()"
)


class Helpers:
    """Processes that help to draw, for as long as the context is open.

    They end when their input does, so that none is left behind, however this process ends. Ctrl-C
    does not reach them, and they tell no error: what they lack is drawn, and told, by this process.

    Args:
        count: how many; by default one for each further core, and at most ``MOST``.
    """

    def __init__(self, count: int | None = None) -> None:
        self._asked: list[subprocess.Popen[bytes]] = []
        self._all: list[subprocess.Popen[bytes]] = []
        for _ in range(min(cores() - 1, MOST) if count is None else count):
            with suppress(OSError):  # no more processes are allowed here: fewer help
                self._all.append(_started())

    def begin(self, records: Records, out: Path, stems: Sequence[str]) -> None:
        """Begin to draw figures.

        Args:
            records: all records.
            out: the folder for the files, which holds the records and the claims meanwhile.
            stems: names of figures as ``figures.asked`` gives them, the longest work first.
        """
        if not self._all or len(stems) < 2:
            return
        stored = out / ".records"
        stored.write_bytes(pickle.dumps(records, pickle.HIGHEST_PROTOCOL))
        for helper in self._all:
            with suppress(OSError):  # it was killed
                pickle.dump((stored, stems, out, paper_name()), _pipe(helper.stdin))
                _pipe(helper.stdin).flush()
                self._asked.append(helper)

    def wait(self) -> dict[str, list[Path]]:
        """Wait for what was begun.

        Returns:
            The files of each figure that helpers drew.
        """
        files = {}
        for helper in self._asked:
            with suppress(EOFError, pickle.UnpicklingError):  # it was killed
                files |= pickle.load(_pipe(helper.stdout))
        self._asked = []
        return files

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for helper in self._all:
            helper.kill()  # nobody waits for what it may still do
            with suppress(OSError):
                helper.communicate()


def begin_figures(
    records: Records,
    out: Path,
    names: Collection[str] = ALL,
    drawn: Drawn | None = None,
    helpers: Helpers | None = None,
) -> Callable[[], list[Path]]:
    """Begin to write figures as PNG, SVG and PDF, named as ``figures.asked`` says.

    Args:
        records: all records.
        out: the folder.
        names: which figures.
        drawn: figures of an earlier report, of which those are taken whose data are the same.
        helpers: processes that draw from now on; this one does when the files are asked for.

    Returns:
        What gives the files once they are written.
    """
    files: dict[str, list[Path] | None] = {}
    missing: list[Asked] = []
    for figure in asked(records, names):
        stem, source, _ = figure
        files[stem] = drawn.take(stem, source.digest, out, FORMATS) if drawn else None
        if files[stem] is None:
            missing.append(figure)
    if helpers:
        helpers.begin(records, out, [stem for stem, *_ in missing])

    def written() -> list[Path]:
        if helpers:
            files.update(_drawn((each for each in missing if _claimed(out, each[0])), out))
            if None in files.values():  # claimed by a helper
                files.update(helpers.wait())
        files.update(_drawn((each for each in missing if files[each[0]] is None), out))
        return [path for there in files.values() for path in there or ()]

    return written


def help_drawing() -> None:
    """Draw what a report asks for, until it asks no more: what a helper does."""
    import importlib

    answers = sys.stdout.buffer
    sys.stdout = sys.stderr  # what libraries print is no answer
    for name in (
        "wash_bench.report.read.frames",
        "matplotlib.figure",
        "matplotlib.backends.backend_pdf",
    ):
        importlib.import_module(name)
    with suppress(EOFError):
        while True:
            stored, stems, out, paper = pickle.load(sys.stdin.buffer)
            every = asked(pickle.loads(stored.read_bytes()))
            with made_for(paper):
                mine = (each for each in every if each[0] in stems and _claimed(out, each[0]))
                files = dict(_drawn(mine, out))
            pickle.dump(files, answers)
            answers.flush()


def _drawn(figures: Iterable[Asked], out: Path) -> Iterator[tuple[str, list[Path]]]:
    """Draw figures one by one; each with its files."""
    for stem, source, drawing in figures:
        figure = drawing.draw(source)
        yield stem, write_figure(stem, figure, out) if figure else []


def _claimed(out: Path, stem: str) -> bool:
    """Whether a figure is for this process to draw, and for no other one from now on."""
    try:
        (out / f".{stem}").touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


def _started() -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable or "python", "-c", _HELP.format(sys.path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def _pipe(end: IO[bytes] | None) -> IO[bytes]:
    return cast("IO[bytes]", end)
