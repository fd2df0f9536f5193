"""Networks that were trained elsewhere: merging them, and the barrier between two."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

if TYPE_CHECKING:
    import pandas as pd
    from torch import nn

    from wash_bench.config import RunConfig
    from wash_bench.networks.inspect import NetworkInfo
    from wash_bench.networks.merge import Merged
    from wash_bench.networks.ranking import Row
    from wash_bench.runner.progress import Observer
    from wash_bench.study.cells import Cell
    from wash_bench.study.resolve import Resolved

RULES = "uniform-soup,greedy-soup"
OUT = "merged"


@dataclass(frozen=True)
class ToMerge:
    """Networks with the settings under which they are merged.

    Attributes:
        found: the networks.
        resolved: the settings, without the members.
        config: the settings, the members' files in them.
        cells: a cell of each merge rule.
        origin: where the settings of the pictures come from.
        anchor: the network that all were fine-tuned from, where it was given.
    """

    found: tuple[NetworkInfo, ...]
    resolved: Resolved
    config: RunConfig
    cells: tuple[Cell, ...]
    origin: str
    anchor: NetworkInfo | None = None


@dataclass(frozen=True)
class MergedNetworks:
    """What a merge measured.

    Attributes:
        folder: holds ``best/``, ``networks.csv``, ``barriers.csv`` and the records.
        names: of the members.
        rows: a row a network and a kind of BatchNorm statistics.
        best: the row of the network in ``best/``, chosen by validation data.
        matrix: the loss barriers between the members, nats.
        merged: the cells and what was measured on all members together.
    """

    folder: Path
    names: tuple[str, ...]
    rows: tuple[Row, ...]
    best: Row
    matrix: tuple[tuple[float, ...], ...]
    merged: Merged

    def frame(self) -> pd.DataFrame:
        """The rows; accuracies and ece in per cent, losses in nats."""
        import pandas as pd

        return pd.DataFrame([asdict(row) for row in self.rows])

    def barriers(self) -> pd.DataFrame:
        """The loss barriers by member, in nats."""
        import pandas as pd

        return pd.DataFrame(self.matrix, index=list(self.names), columns=list(self.names))

    def diagnose_drop(self, margin: float = 1.0) -> str:
        """Why the average of all is so many points below its members; empty if it is not."""
        from wash_bench.report.numbers.diagnosis import diagnose_drop

        return diagnose_drop(self.merged.summary, margin)


@dataclass(frozen=True)
class Barrier:
    """The segment between two networks.

    Attributes:
        loss: the barrier in nats, BatchNorm statistics interpolated.
        loss_bn: the same with re-estimated ones; None where the network has no BatchNorm.
        points: a row a network on the segment: alpha, bn, loss in nats, accuracy in per cent.
    """

    loss: float
    loss_bn: float | None
    points: pd.DataFrame


@overload
def merge(
    networks: Sequence[str | Path],
    dataset: str | None = None,
    *,
    model: str | None = None,
    methods: str | Sequence[str] = RULES,
    anchor: str | Path | None = None,
    out: str | Path = OUT,
    observer: Observer | None = None,
    debug: bool = False,
    **options: Any,
) -> MergedNetworks: ...


@overload
def merge(
    networks: Sequence[nn.Module],
    *,
    methods: str | Sequence[str] = "uniform-soup",
    anchor: nn.Module | None = None,
    score: Callable[[nn.Module], float] | None = None,
    batches: Iterable[Any] | None = None,
    set: Mapping[str, Mapping[str, Any]] | None = None,
) -> dict[str, nn.Module]: ...


def merge(
    networks: Any,
    dataset: str | None = None,
    *,
    model: str | None = None,
    methods: str | Sequence[str] | None = None,
    anchor: Any = None,
    out: str | Path = OUT,
    observer: Observer | None = None,
    debug: bool = False,
    **options: Any,
) -> Any:
    """Merge networks that were trained elsewhere, and export the best one to ``out``/best.

    Modules are merged in memory instead: ``merge(models, methods="ties", score=accuracy)`` gives
    a network by each rule (``wash_bench.api.modules.merge_modules``).

    Args:
        networks: files of weights, or folders of timm's training script or of an export; or
            modules of one architecture.
        dataset: the images, as ``folder:PATH``; None where the networks' files say it.
        model: the architecture; None where the files say it.
        methods: merge rules.
        anchor: the network that all were fine-tuned from, for rules that need it.
        out: folder of the records; what is measured there is not measured again.
        observer: is told the progress; None for a table in a notebook and nothing elsewhere.
        debug: print tracebacks of failing cells.
        **options: further settings by key, as of ``run``.

    Returns:
        What was measured; a UsageError names what does not fit.
    """
    if _are_modules(networks):
        from wash_bench.api.modules import merge_modules

        chosen = options.pop("set", None)
        rules = methods or "uniform-soup"
        return merge_modules(networks, rules, anchor=anchor, options=chosen, **options)
    from wash_bench.api.display import display_for_program
    from wash_bench.api.options import as_options

    given = {"dataset": dataset, "model": model, "methods": methods, "out": out}
    these = to_merge(networks, as_options(options | given), anchor)
    with display_for_program(observer) as told:
        return merged(these, told, debug=debug)


def _are_modules(networks: Sequence[Any]) -> bool:
    return bool(networks) and all(callable(getattr(n, "state_dict", None)) for n in networks)


def to_merge(
    networks: Sequence[str | Path], options: Mapping[str, Any], anchor: str | Path | None = None
) -> ToMerge:
    """Find networks and settle the settings, as a UsageError where they do not go together."""
    from wash_bench.networks.inspect import find, resolved_for
    from wash_bench.study.cells import cells_of
    from wash_bench.study.checks import check_folder, check_start
    from wash_bench.study.resolve import given

    said = {"methods": RULES, "out": OUT} | given(options)
    check_folder(Path(said["out"]), "--out")
    found = tuple(find(Path(path)) for path in networks)
    from wash_bench.networks.merge import check_methods, paths_of

    files = paths_of(found)
    base = find(Path(anchor)) if anchor else None
    start = f"checkpoint:{base.weights}" if base else "independent"
    fixed = {"population": str(len(found)), "init": start, "batch_size": "2"}
    resolved, origin = resolved_for(found, said, **fixed)
    training = resolved.config.training.model_copy(update={"members": files})
    check_start(training)
    config = resolved.config.model_copy(update={"training": training})
    cells = cells_of(config, resolved.specs, resolved.out)
    check_methods(cells)
    return ToMerge(found, resolved, config, cells, origin, base)


def merged(
    these: ToMerge, observer: Observer | None = None, *, debug: bool = False
) -> MergedNetworks:
    """Measure members and merges, as far as that is not done.

    Returns:
        What was measured; the best network lies in the run folder's ``best``.

    Raises:
        WashBenchError: not even the members could be measured.
    """
    from wash_bench.errors import WashBenchError
    from wash_bench.networks.merge import member_names
    from wash_bench.networks.merge import merge as merge_networks
    from wash_bench.networks.ranking import Rows, export_best, write_barriers
    from wash_bench.runner.context import RunContext
    from wash_bench.runner.progress import unobserved

    context = RunContext.of(these.resolved, debug=debug, observer=observer or unobserved)
    done = merge_networks(these.cells, these.found, context, these.anchor)
    if not done.summary:
        reasons = sorted({reason for _, reason in done.outcome.failed})
        raise WashBenchError(f"the networks could not be measured: {'; '.join(reasons)}")
    names = tuple(member_names(these.found))
    rows = Rows(done, names, context, context.out / "networks.csv")
    matrix = write_barriers(done, names, context.out / "barriers.csv")
    export_best(done, rows, context.out / "best", [item.path for item in these.found])
    return MergedNetworks(
        context.out, names, tuple(rows.rows), rows.best, tuple(map(tuple, matrix)), done
    )


@overload
def barrier(
    first: str | Path,
    second: str | Path,
    dataset: str | None = None,
    *,
    model: str | None = None,
    **options: Any,
) -> Barrier: ...


@overload
def barrier(
    first: nn.Module,
    second: nn.Module,
    *,
    loss: Callable[[nn.Module], float],
    points: int = 11,
    batches: Iterable[Any] | None = None,
) -> Barrier: ...


def barrier(
    first: Any,
    second: Any,
    dataset: str | None = None,
    *,
    model: str | None = None,
    **options: Any,
) -> Barrier:
    """Measure the straight segment between two networks; nothing is recorded.

    Two modules are measured by a function: ``barrier(one, other, loss=mean_squared_error)``
    (``wash_bench.api.modules.barrier_points``).

    Args:
        first: a file or a folder, as of ``merge``; or a module.
        second: the other one.
        dataset: the images, as of ``merge``.
        model: the architecture, as of ``merge``.
        **options: further settings by key, as ``barrier_points=11``.

    Returns:
        The barrier and the points that it is taken from.
    """
    import pandas as pd

    if _are_modules([first, second]):
        from wash_bench.api.modules import barrier_points as points_between
        from wash_bench.evaluate.barrier import pair_barriers as highest

        rows = points_between(first, second, **options)
        again = highest(rows, "reestimated").get(("0", "1"))
        return Barrier(highest(rows)["0", "1"], again, pd.DataFrame(rows).drop(columns="kind"))
    from wash_bench.api.options import as_options
    from wash_bench.core.population import Population
    from wash_bench.evaluate.barrier import barrier_points, pair_barriers
    from wash_bench.evaluate.evaluator import Evaluator
    from wash_bench.models.init_checkpoint import InitCheckpoint
    from wash_bench.networks.inspect import in_order_of
    from wash_bench.networks.score import network_of
    from wash_bench.runner.context import RunContext
    from wash_bench.runner.training_setup import TrainingSetup

    said = as_options(options | {"dataset": dataset, "model": model})
    these = to_merge([first, second], said)
    context = RunContext.of(these.resolved)
    context.set_up_torch()
    setting = TrainingSetup.of(these.config.training, context.download)
    setting.data = in_order_of(these.found, setting.data, setting.config.dataset)
    files = [InitCheckpoint.read(item.weights, str(item.path)) for item in these.found]
    population = Population(
        lambda member: network_of(setting, files[member])[0],
        2,
        device=setting.device,
        channels_last=setting.config.channels_last,
    )
    evaluator = Evaluator(population, setting.data, setting.config.amp, 0, setting.recipes(0))
    points = barrier_points(evaluator, population.states(), these.config.evaluation)
    rows = [point.as_dict() for point in points if point.kind == "pair"]
    text = [{key: str(value) for key, value in row.items()} for row in rows]
    again = pair_barriers(text, "reestimated")
    frame = pd.DataFrame(rows)[["alpha", "bn", "split", "images", "loss", "accuracy"]]
    return Barrier(pair_barriers(text)["0", "1"], again.get(("0", "1")), frame)
