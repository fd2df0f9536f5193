"""Runs and plans: what ``wash-bench run`` and ``wash-bench plan`` do, for programs."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wash_bench.api.display import display_for_program
from wash_bench.api.options import as_options

if TYPE_CHECKING:
    import pandas as pd

    from wash_bench.config import TrainingConfig
    from wash_bench.runner.plan import Plan
    from wash_bench.runner.progress import Observer
    from wash_bench.runner.queue import Outcome
    from wash_bench.study.file import Study
    from wash_bench.study.resolve import Resolved


@dataclass(frozen=True)
class Ran:
    """What became of a run.

    Attributes:
        folder: the run folder.
        outcome: the cells' ids by what became of them.
    """

    folder: Path
    outcome: Outcome

    def table(self, digits: int = 2) -> pd.DataFrame:
        """The main table of the run folder."""
        from wash_bench.api.reports import table

        return table(self.folder, digits=digits)


def run(
    preset: str | None = None,
    *,
    preset_file: str | Path | None = None,
    observer: Observer | None = None,
    debug: bool = False,
    **options: Any,
) -> Ran:
    """Train and measure what is not done yet of a run.

    Args:
        preset: settings to start from, or a study file (``FILE.toml``); None as on the command
            line.
        preset_file: your own preset.
        observer: is told the progress; None for a table in a notebook and nothing elsewhere.
        debug: print tracebacks of failing cells.
        **options: settings by key, as ``methods="wash,papa"``, ``seeds=[0, 1]``,
            ``set={"wash": {"p": 0.1}}`` or ``out="runs"``. ``model`` and ``dataset`` take a
            function, and ``methods`` a list with classes; their sources identify them. Other than
            on the command line trainings go one after another in this process (``jobs=1``), and
            no report is written.

    Returns:
        The run folder and what became of the cells; what is wrong with a setting is a UsageError.
    """
    said = as_options(options, jobs=1, report=False)
    study = study_from(preset, preset_file, said)
    local = study.local if study else resolved(preset, preset_file, said)
    from wash_bench.runner.context import RunContext
    from wash_bench.runner.experiment import run_cells

    with display_for_program(observer) as display:
        context = RunContext.of(local, observer=display, debug=debug)
        outcome = run_cells(study.cells if study else local.cells(), context)
    if local.report and study:
        from wash_bench.report.study import write_study

        write_study(study, local.out, local.out / "tables")
    elif local.report:
        from wash_bench.report.write import write_report

        write_report([local.out], local.out / "report")
    return Ran(local.out, outcome)


def plan(
    preset: str | None = None, *, preset_file: str | Path | None = None, **options: Any
) -> Plan:
    """Count and time the cells of a run; nothing is trained. Arguments as of ``run``."""
    from wash_bench.runner.plan import plan_cells

    given = as_options(options)
    if study := study_from(preset, preset_file, given):
        return plan_cells(study.cells, download=study.local.download)
    return plan_of(resolved(preset, preset_file, given))


def study_from(
    preset: str | None,
    preset_file: str | Path | None,
    options: Mapping[str, Any],
    scale: str = "",
) -> Study | None:
    """Return the study that ``preset`` names as a file; None where it is a preset's name."""
    from wash_bench.errors import UsageError

    if not (preset or "").endswith(".toml"):
        if scale:
            raise UsageError("--scale is of a study file: name one in place of the preset")
        return None
    if preset_file is not None:
        raise UsageError("--preset-file: a study file names its preset itself; leave one out")
    from wash_bench.study.file import read_study, study_of
    from wash_bench.study.resolve import given

    return study_of(read_study(Path(str(preset))), scale, given(options), start=settings_of_start)


def resolved(
    preset: str | None, preset_file: str | Path | None, options: Mapping[str, Any]
) -> Resolved:
    """The settings of a run, checked, and how pictures are taken by a network to start from."""
    # torch has not been imported when it returns, unless there is such a network.
    from wash_bench.study.checks import check_folder
    from wash_bench.study.resolve import resolve

    file = Path(preset_file) if preset_file else None
    found = resolve(preset, file, options, start=settings_of_start)
    check_folder(found.out, "--out")
    return found


def settings_of_start(
    training: TrainingConfig, chosen: Collection[str], download: bool
) -> tuple[dict[str, Any], str]:
    """Return what the network that members start from says of settings; UsageError if none."""
    from wash_bench.networks.initial import of_start
    from wash_bench.study.checks import check_start

    check_start(training)
    more, told = of_start(training, chosen, download)
    if "init" in more:
        check_start(training.model_copy(update={"init": more["init"]}))
    return more, told


def plan_of(found: Resolved) -> Plan:
    """Plan the cells of a run, a method's variants together."""
    from wash_bench.runner.plan import plan_cells

    order = [spec.label for spec in found.specs]
    cells = sorted(found.cells(), key=lambda cell: order.index(cell.label))
    return plan_cells(cells, download=found.download)
