"""The cell, the unit of work: a method with its own options at one seed, under some settings.

A *training* is a population trained under one rule at one seed; cells whose methods have the same
training rule share it. Each id ends in a hash of the canonical JSON of all settings that matter to
it; each setting's field says whether it does. ``identify`` writes the documents that are hashed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from wash_bench.config import CHECKPOINT_PREFIX, RunConfig, TrainingConfig, fingerprint
from wash_bench.core.method import TRAINING_HOOKS, Method
from wash_bench.data import catalog
from wash_bench.data.catalog import FOLDER_PREFIX
from wash_bench.data.external import external_content
from wash_bench.data.paths import content_of, earlier_content_of
from wash_bench.errors import WashBenchError
from wash_bench.models.init_checkpoint import content_of_checkpoint
from wash_bench.models.sources import identity_of, is_external, short_name
from wash_bench.plugins.registry import MethodEntry, known_method, make_method
from wash_bench.python_file import digest_in_file, is_in_file
from wash_bench.record.store import read_manifest
from wash_bench.study.device import device_type
from wash_bench.study.sweep import differing, told

IDENTITY = 1  # version of what is hashed; another one would train every cell anew
NOT_SHARED: dict[str, Any] = {"methods": (), "set": {}, "coupling": {}, "seeds": ()}
"""Fields of a run's configuration that its cells hold themselves."""


@dataclass(frozen=True)
class MethodSpec:
    """A method with its own options.

    Attributes:
        entry: the method.
        options: what is not its default, a wrapper's in a table of its name.
        label: what tables and displays call it.
        coupling: how ``coupling_budget = paper`` scaled its options; empty where it did not.
    """

    entry: MethodEntry
    options: Mapping[str, Any] = field(default_factory=dict)
    label: str = ""
    coupling: Mapping[str, Any] = field(default_factory=dict)

    def make(self) -> Method:
        """Construct the method anew, to train and to merge with."""
        return make_method(self.entry, self.options)

    def known(self) -> Method:
        """Return the method to ask it about itself; it is constructed once."""
        return known_method(self.entry, self.options)


@dataclass(frozen=True)
class CellIds:
    """The names of a cell's records; the files of a run folder are called by them."""

    cell: str
    training: str
    evaluation: str
    experiment: str


class Inputs:
    """Files that trainings read, as ids see them: each is read once for all cells of a list."""

    def __init__(self, training: TrainingConfig, *, earlier: bool = False) -> None:
        self._training = training
        self._earlier = earlier  # an image folder as records of 0.1.0 identify it

    @cached_property
    def about(self) -> dict[str, Any]:
        """What stands in the document that is hashed, in place of paths and ``auto``."""
        training, about = self._training, dict[str, Any]()
        about["device"] = device_type(training.device)
        about["schema"] = IDENTITY
        if training.checkpoint:  # wherever the file lies
            about["init"] = CHECKPOINT_PREFIX + content_of_checkpoint(training.checkpoint)
        if training.members:
            about["members"] = [content_of_checkpoint(Path(path)) for path in training.members]
        if is_external(training.model):  # wherever its file lies
            about["model"] = identity_of(training.model)
        if training.dataset.startswith(FOLDER_PREFIX):  # wherever its images lie
            path = Path(training.dataset.removeprefix(FOLDER_PREFIX)).expanduser()
            about["dataset"] = FOLDER_PREFIX + (str(path.resolve()) if self._earlier else "")
            # Images may have been added since the last run.
            about["content"] = earlier_content_of(path) if self._earlier else content_of(path)
        elif catalog.is_external(training.dataset):
            about["dataset"], about["content"] = external_content(training.dataset)
        return about

    def check_unchanged(self) -> None:
        """Refuse, as a WashBenchError, a user's file that has changed since ids were computed."""
        for key, place in (("model", "model"), ("dataset", "content")):
            name = getattr(self._training, key)
            if is_in_file(name) and digest_in_file(name, f"{key} file") != self.about[place]:
                raise WashBenchError(
                    f"the file of {key} {name} has changed since the run began; start the run again"
                )


@dataclass(frozen=True)
class Cell:
    """A method at a seed under the settings of a training and of an evaluation.

    Attributes:
        spec: the method with its options.
        seed: the seed of the training.
        config: all other settings; its ``methods``, ``set``, ``coupling`` and ``seeds`` are unused.
        inputs: what the training reads.
        known: the ids of a record that is read back; None to compute them.
    """

    spec: MethodSpec
    seed: int
    config: RunConfig
    inputs: Inputs = field(compare=False)
    known: CellIds | None = None

    @property
    def method(self) -> str:
        """The method's name."""
        return self.spec.entry.name

    @property
    def label(self) -> str:
        """What tables and displays call it."""
        return self.spec.label or self.method

    @cached_property
    def ids(self) -> CellIds:
        """All four ids."""
        return self.known or identify(self.config, self.spec, self.seed, self.inputs.about)

    @property
    def cell_id(self) -> str:
        """The id of its record."""
        return self.ids.cell

    @property
    def training_id(self) -> str:
        """The id of its training."""
        return self.ids.training

    @property
    def evaluation_id(self) -> str:
        """The id of the evaluation's settings."""
        return self.ids.evaluation

    @property
    def experiment_id(self) -> str:
        """The id of the settings that compared cells have in common."""
        return self.ids.experiment

    def record(self, config: RunConfig, settings: Mapping[str, Any]) -> dict[str, Any]:
        """Return ``config`` as a record holds it; of the evaluation what is in its identity.

        Args:
            config: the cell's own, or the one under which its method trains.
            settings: all options of the method, its defaults too.
        """
        coupling = {self.method: dict(self.spec.coupling)} if self.spec.coupling else {}
        own = {"methods": [self.method], "seeds": [self.seed], "set": {self.method: settings}}
        evaluation = {"evaluation": config.evaluation.identity()}
        return config.model_dump(mode="json") | evaluation | own | {"coupling": coupling}


def cells_of(
    config: RunConfig, specs: Iterable[MethodSpec | MethodEntry], out: Path | None = None
) -> tuple[Cell, ...]:
    """Return the cells of methods under one configuration, seeds outside.

    Args:
        config: the configuration.
        specs: the methods; one that is given without options has those of ``config.set``.
        out: the run folder. Where it has an experiment on an image folder under the ids of 0.1.0,
            these are kept.

    Returns:
        The cells.
    """
    own = [
        spec if isinstance(spec, MethodSpec) else MethodSpec(spec, config.set.get(spec.name, {}))
        for spec in specs
    ]
    shared, inputs = config.model_copy(update=NOT_SHARED), Inputs(config.training)
    cells = tuple(Cell(spec, seed, shared, inputs) for seed in config.seeds for spec in own)
    if not out or not (out / "cells").is_dir():
        return cells
    if not config.training.dataset.startswith(FOLDER_PREFIX) or _recorded(cells, out):
        return cells
    before = Inputs(config.training, earlier=True)
    earlier = tuple(replace(cell, inputs=before) for cell in cells)
    return earlier if _recorded(earlier, out) else cells


def _recorded(cells: Sequence[Cell], out: Path) -> bool:
    """Whether a run folder has a part of an experiment, or was last asked for it."""
    last = {cell.experiment_id for cell in read_manifest(out)}
    return any(
        (out / "trainings" / cell.training_id).is_dir()
        or cell.experiment_id in last
        or (out / "cells" / f"{cell.cell_id}.json").is_file()
        for cell in cells
    )


def identify(config: RunConfig, spec: MethodSpec, seed: int, about: Mapping[str, Any]) -> CellIds:
    """Write the documents that are hashed into the ids of a cell, and hash them.

    Args:
        config: training and evaluation.
        spec: the method with its options.
        seed: the run's seed.
        about: ``Inputs.about`` of the training.

    Returns:
        The ids of cell, training, evaluation and experiment.
    """
    method, name = spec.known(), config.training.dataset
    if name.startswith(FOLDER_PREFIX):
        folder = Path(about["dataset"].removeprefix(FOLDER_PREFIX))
        name = f"{FOLDER_PREFIX}{folder.name or about['content']}"
    elif catalog.is_external(name):
        name = about["dataset"] + about["content"]
    shared = config.training.identity() | config.identity() | dict(about)
    changed = method.training_config(config.training).identity() | config.identity() | dict(about)
    evaluation = config.evaluation.identity()
    rule = _training_rule(method) | {"source": spec.entry.training_identity}
    training = changed | {"seed": seed, "training_rule": rule}
    if changed != shared:  # each experiment has a training of its own
        training["run"] = shared
    options = method.settings()
    cell = training | {"evaluation": evaluation, "method": method.name, "options": options}
    cell["source"] = spec.entry.identity

    where = f"{short_name(config.training.model)}-{name}-n{config.training.population}"
    tail = _file_name(f"{where}-s{seed}")
    return CellIds(
        f"{method.name}-{tail}-{fingerprint(cell)}",
        f"{_file_name(str(rule.get('rule', method.name)))}-{tail}-{fingerprint(training)}",
        fingerprint(evaluation),
        f"{_file_name(where)}-{fingerprint(shared | {'evaluation': evaluation})}",
    )


def _training_rule(method: Method) -> dict[str, Any]:
    """Return the method's training key, or more where an ancestor's key would know less.

    A class that inherits ``training_key`` but changes how members train (a NaiveEnsemble with an
    ``after_step`` of its own) must not read the training of its ancestor or of a sibling.
    """
    rule = method.training_key()
    for cls in type(method).__mro__:
        if "training_key" in vars(cls):
            break
        if TRAINING_HOOKS & vars(cls).keys():
            options = method.options.model_dump(mode="json")
            return rule | {"rule": method.name, "options": options}
    return rule


def labelled(specs: Sequence[MethodSpec]) -> list[MethodSpec]:
    """Return the same with labels in which variants of one method differ."""
    found = []
    for spec in specs:
        own = [each.options for each in specs if each.entry.name == spec.entry.name]
        text = told(spec.options, differing(own))
        name = spec.entry.name
        found.append(replace(spec, label=f"{name} ({text})" if text else name))
    return found


def _file_name(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9_.-]+", "_", text).strip("_.")[:80]
