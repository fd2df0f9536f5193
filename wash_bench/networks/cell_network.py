"""The networks of a cell: its members, their averages and soups, and what its method delivers."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wash_bench.data.catalog import FOLDER_PREFIX
from wash_bench.data.paths import nfc
from wash_bench.errors import UsageError, WashBenchError, nearest, note
from wash_bench.networks.inspect import NetworkInfo, pinned
from wash_bench.record.schema import read_summed
from wash_bench.record.store import Store, TrainingFolder
from wash_bench.runner.recorded import CellRecord, task_of

if TYPE_CHECKING:
    from torch import Tensor

    from wash_bench.core.merge_context import Predictor
    from wash_bench.core.population import ModelState
    from wash_bench.data.source import DataSource
    from wash_bench.evaluate.population_context import PopulationJudge
    from wash_bench.models.init_checkpoint import InitCheckpoint
    from wash_bench.runner.context import RunContext
    from wash_bench.runner.training_setup import TrainingSetup

OWN = "delivered"
# The networks by name: how a record calls their scores, and what they are.
KINDS = {
    OWN: ("method", "the network that the method delivers"),
    "averaged": ("average", "the average of the members' weights"),
    "averaged-bn": ("average_bn", "the same, BatchNorm statistics re-estimated"),
    "greedy-soup": ("greedy", "the greedy soup"),
}
SCORES = ("acc", "nll", "ece", "brier")
_MEMBER = re.compile(r"member:(\d{1,6})")


@dataclass(frozen=True)
class StoredNetwork:
    """One network of a cell.

    Attributes:
        cell: whose it is.
        which: its name, as ``averaged`` or ``member:2``.
        about: what it is, in words.
        tensors: by the architecture's own names, float32 or int64.
        recorded: ``acc``, ``nll``, ``ece``, ``brier`` on test data; empty where the record has
            them for no single network of this kind.
        scores: those, or measured now where the record has none.
        setting: the data and the settings of its training, the classes in the training's order.
    """

    cell: CellRecord
    which: str
    about: str
    tensors: Mapping[str, Tensor]
    recorded: Mapping[str, float]
    scores: Mapping[str, float]
    setting: TrainingSetup


def load_network(
    cell: CellRecord, which: str, context: RunContext, methods: tuple[str, ...] = ()
) -> StoredNetwork:
    """Make one network of a finished cell again, from the members that its training left.

    Args:
        cell: whose it is.
        which: one of ``KINDS``, or ``member:K``.
        context: device, threads and the like.
        methods: files of methods that are not installed, as ``path.py:Class``.

    Returns:
        The network.

    Raises:
        WashBenchError: the members are gone or damaged; there is no such network, as where the
            method delivers an ensemble.
    """
    from wash_bench.evaluate.scores import all_scores
    from wash_bench.runner.evaluation import judged
    from wash_bench.runner.trainer import Trainer
    from wash_bench.runner.training_setup import TrainingSetup
    from wash_bench.train import checkpoint

    task = task_of(cell, methods)
    _check_which(cell, which, task.training.population)
    context.set_up_torch()
    data, config = cell.data, cell.config
    folder = Store(cell.root).training(data["training_id"])
    state = checkpoint.pointer(folder.path)
    if state is None or not state["finished"]:
        raise WashBenchError(
            f"cell {data['cell_id']}: its members are not in {folder.path}, and a record alone "
            "holds no weights; name the run folder of the machine that trained it"
        )
    setting = TrainingSetup.of(config.training, context.download)
    uses_labels = which == "greedy-soup" or (
        which == OWN and not folder.network(data["cell_id"]).is_file()
    )
    setting.data = as_trained(setting.data, folder, config.training.dataset, uses_labels)
    trainer = Trainer(task, setting, folder, context)
    trainer.load_finished(state)
    population = trainer.whole()
    assert population is not None  # this process holds it
    evaluator, judge = judged(trainer, population, config.evaluation)
    made = None
    if which == OWN and folder.network(data["cell_id"]).is_file():
        tensors = _read(folder.network(data["cell_id"]))
    else:
        made = _made(which, judge, lambda: trainer.method.predictors(population, judge))
        tensors = population.named_tensors(made)
    kind, about = KINDS.get(which, ("", which.replace(":", " ")))
    if which == OWN:
        about += f" ({data['summary']['method_predictor']})"
    scores = recorded = _recorded(data, kind)
    if not recorded and made is not None:  # of a single member
        labels = evaluator.labels("test")
        scores = all_scores(evaluator.log_probs(made, "test"), labels, config.evaluation.ece_bins)
    return StoredNetwork(cell, which, about, tensors, recorded, scores, trainer.setting)


def as_trained(
    data: DataSource, folder: TrainingFolder, dataset: str, uses_labels: bool
) -> DataSource:
    """Return the data with the classes of a training, in its order; a UsageError if others are."""
    # Where no label is used, that is noted alone.
    try:
        names = read_summed(folder.path / "training.json").get("class_names")
    except (OSError, ValueError):
        names = None
    if not names:
        if dataset.startswith(FOLDER_PREFIX):
            note(f"{folder.path} does not name its classes: those of {dataset} now are taken")
        return data
    here = {nfc(name) for name in data.class_names}
    if lost := [name for name in names if nfc(name) not in here]:
        text = (
            f"the class folders of {dataset} are not those of the training, which had {lost[0]!r} "
            f"(training.json names its classes)"
        )
        if uses_labels or len(names) != len(here):
            raise UsageError(f"{text}; name the images as they were, with --data-dir")
        note(text)
        data = copy.copy(data)
        data.class_names = tuple(names)
        return data
    return data if tuple(names) == tuple(data.class_names) else data.in_order(names)


def found_of(network: StoredNetwork, named: str) -> tuple[NetworkInfo, InitCheckpoint]:
    """A cell's network as if it were read from a file, for whom the user's name is given."""
    from wash_bench.models.init_checkpoint import InitCheckpoint

    path = Path(named)
    settings = pinned(network.setting.config.model_dump(mode="json"))
    settings = {key: value for key, value in settings.items() if value != {}}
    found = NetworkInfo(path, path, settings, "its record", network.setting.data.class_names)
    return found, InitCheckpoint(path, "", network.tensors, named)


def _check_which(cell: CellRecord, which: str, n: int) -> None:
    summary = cell.data["summary"]
    if found := _MEMBER.fullmatch(which):
        if int(found[1]) >= n:
            raise UsageError(f"--network {which}: the cell has members 0 to {n - 1}")
    elif which not in KINDS:
        raise UsageError(f"--network {which}: {nearest(which, [*KINDS, 'member:K'])}")
    elif which == OWN and summary.get("method_networks", 1) != 1:
        raise UsageError(
            f"cell {cell.data['cell_id']} delivers {summary['method_networks']} networks, whose "
            "predictions are averaged; name one with --network averaged, averaged-bn, greedy-soup "
            f"or member:K (K from 0 to {n - 1})"
        )


def _made(
    which: str, judge: PopulationJudge, delivered: Callable[[], Mapping[str, Predictor]]
) -> ModelState:
    """The state of a network by its name."""
    if found := _MEMBER.fullmatch(which):
        return judge.members[int(found[1])]
    if which == "greedy-soup":
        return judge.greedy().states[0]
    if which == OWN:
        return next(iter(delivered().values())).states[0]
    average = judge.average().states[0]
    return judge.reestimated(average) if which == "averaged-bn" else average


def _recorded(data: Mapping[str, Any], kind: str) -> dict[str, float]:
    """The scores of a model on test data as the record has them."""
    found = {score: data["summary"].get(f"{kind}_{score}") for score in SCORES}
    return {score: float(value) for score, value in found.items() if value is not None}


def _read(path: Path) -> dict[str, Tensor]:
    from wash_bench.models.checkpoint_file import read_file

    return read_file(path, str(path))[0]
