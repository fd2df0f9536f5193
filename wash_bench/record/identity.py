"""Who is who on disk: the identity of an experiment, of a training and of a cell.

A *training* is a population trained under one rule at one seed. A *cell* is a method at a seed;
cells whose methods have the same training rule read the same training. Each identity is the
canonical JSON of all settings that matter to it, hashed; each setting's field says whether it does.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wash_bench.config import CHECKPOINT_PREFIX, RunConfig, fingerprint
from wash_bench.core.method import TRAINING_HOOKS, Method
from wash_bench.data.catalog import FOLDER_PREFIX

IDENTITY = 1  # version of what is hashed; another one would train every cell anew


@dataclass(frozen=True)
class Cell:
    """One method at one seed, and where its records belong."""

    method: str
    seed: int
    cell_id: str
    training_id: str
    evaluation_id: str
    experiment_id: str


def cell_of(
    config: RunConfig,
    device_type: str,
    method: Method,
    source_hash: str | None,
    seed: int,
    content: str | None = None,
    start: str | None = None,
    training_source: str | None = None,
    members: Sequence[str] = (),
) -> Cell:
    """The cell of ``method`` at ``seed``.

    Args:
        config: the experiment.
        device_type: the device that ``auto`` stands for, as ``cpu``.
        method: the method with its options.
        source_hash: hash of the file of a method that is not ours, else None.
        seed: the run's seed.
        content: fingerprint of an image folder's files, None for other data sets.
        start: digest of the checkpoint that members start from, None if there is none.
        training_source: ``source_hash`` without the files that only merge.
        members: digests of the members' files, where they were trained elsewhere.

    Returns:
        The cell, with the identities of its training, evaluation and experiment.
    """
    name = config.training.dataset
    about: dict[str, Any] = {"device": device_type, "schema": IDENTITY}
    if start:  # wherever the file lies
        about["init"] = CHECKPOINT_PREFIX + start
    if members:
        about["members"] = list(members)
    if name.startswith(FOLDER_PREFIX):  # one folder has many spellings, from here or elsewhere
        path = Path(name.removeprefix(FOLDER_PREFIX)).expanduser().resolve()
        about["dataset"], name = f"{FOLDER_PREFIX}{path}", f"{FOLDER_PREFIX}{path.name}"
        about["content"] = content
    shared = config.training.identity() | config.identity() | about
    changed = method.training_config(config.training).identity() | config.identity() | about
    evaluation = config.evaluation.identity()
    rule = _training_rule(method) | {"source": training_source}
    training = changed | {"seed": seed, "training_rule": rule}
    if changed != shared:  # each experiment has a training of its own
        training["run"] = shared
    options = method.settings()
    cell = training | {"evaluation": evaluation, "method": method.name, "options": options}
    cell["source"] = source_hash

    where = f"{config.training.model}-{name}-n{config.training.population}"
    tail = _file_name(f"{where}-s{seed}")
    return Cell(
        method.name,
        seed,
        f"{method.name}-{tail}-{fingerprint(cell)}",
        f"{_file_name(str(rule.get('rule', method.name)))}-{tail}-{fingerprint(training)}",
        fingerprint(evaluation),
        f"{_file_name(where)}-{fingerprint(shared | {'evaluation': evaluation})}",
    )


def _training_rule(method: Method) -> dict[str, Any]:
    """The method's training key, or more where the key is an ancestor's that knows less.

    A class that inherits ``training_key`` but changes how members train (a NaiveEnsemble with an
    ``after_step`` of its own) must not read the training of its ancestor or of a sibling.

    Returns:
        The key, as JSON data.
    """
    rule = method.training_key()
    for cls in type(method).__mro__:
        if "training_key" in vars(cls):
            break
        if TRAINING_HOOKS & vars(cls).keys():
            options = method.options.model_dump(mode="json")
            return rule | {"rule": method.name, "options": options}
    return rule


def cell_config(config: RunConfig, cell: Cell, options: dict[str, Any]) -> dict[str, Any]:
    """A cell's settings as its record holds them; of the evaluation, those of its identity."""
    data = config.model_dump(mode="json") | {"evaluation": config.evaluation.identity()}
    coupling = {name: own for name, own in data["coupling"].items() if name == cell.method}
    own = {"methods": [cell.method], "seeds": [cell.seed], "set": {cell.method: options}}
    return data | own | {"coupling": coupling}


def _file_name(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9_.-]+", "_", text).strip("_.")[:80]
