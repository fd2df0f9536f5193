"""``--rescale-coupling``: the papers' coupling, scaled to the length of a training.

The papers' setting is that of a preset of the package at the papers' scale. Its number of
exchanges of a coordinate over the whole training is kept, as each method defines it
(``Method.scaled``): p x steps for WASH, the product of all contractions for PAPA, the period as a
share of the training for DART. A coupling that a preset of the package has for its own, shorter
training is left out; what a preset file or ``--set`` says is taken as of the papers' training.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from wash_bench.core.budget import Budget, Rates
from wash_bench.core.step_info import Schedule
from wash_bench.core.wrapper import Independent, Wrapper
from wash_bench.data.sizes import steps, steps_per_epoch
from wash_bench.plugins.registry import MethodEntry
from wash_bench.study.cells import MethodSpec
from wash_bench.study.presets import find_preset

if TYPE_CHECKING:
    from wash_bench.config import TrainingConfig

DEFAULT_REFERENCE = "cifar10-resnet18"
REFERENCES = {"imagenet": "imagenet-resnet50"}
"""The preset that holds the papers' setting, by data set; else ``DEFAULT_REFERENCE``."""


def reference(dataset: str) -> str:
    """The name of the preset that holds the papers' setting for a data set."""
    return REFERENCES.get(dataset, DEFAULT_REFERENCE)


def paper_options(dataset: str) -> Mapping[str, Mapping[str, Any]]:
    """What that preset sets, by method."""
    return find_preset(reference(dataset)).values.get("set", {})


def of_coupling(entry: MethodEntry, options: Mapping[str, Any]) -> dict[str, Any]:
    """Those of a method's options that say how its members are coupled."""
    names = entry.load().coupling
    return {key: value for key, value in options.items() if key in names}


def scaled(spec: MethodSpec, training: TrainingConfig, paper: TrainingConfig) -> MethodSpec:
    """Return a method whose options, as of the papers' training, are scaled to this one.

    Args:
        spec: the method with the coupling of the papers' training.
        training: this training.
        paper: the papers' training, of the preset ``reference(training.dataset)``.

    Returns:
        The method with scaled options, and ``coupling``: paper and scaled (options), reference,
        paper_steps, steps, limited. Unchanged where the method says nothing about other lengths.
    """
    lengths = steps(training), training.epochs, steps(paper), paper.epochs
    budget = Budget(*lengths, _rates(training), _rates(paper))
    method = spec.make()
    result = method.scaled(budget)
    if not result.options:
        return spec
    before = of_coupling(spec.entry, method.settings())
    record = {
        "paper": before,
        "scaled": of_coupling(spec.entry, before | result.options),
        "reference": reference(training.dataset),
        "paper_steps": budget.paper_steps,
        "steps": budget.steps,
        "limited": result.limited,
    }
    return replace(spec, options={**spec.options, **result.options}, coupling=record)


def _rates(training: TrainingConfig) -> Rates:
    schedule = Schedule.of(training, steps_per_epoch(training))
    return lambda share: schedule.at(int(share * schedule.steps)) / schedule.lr


def in_words(record: Mapping[str, Any]) -> str:
    """One method's record as text, without the method's name.

    Returns:
        What the papers have, and what it was scaled to.

    >>> in_words({"paper": {"p": 0.001}, "scaled": {"p": 0.1}, "paper_steps": 1000, "steps": 10,
    ...           "reference": "cifar10-resnet18", "limited": ""})
    'p=0.001 over 1,000 steps (cifar10-resnet18), scaled to p=0.1 over 10'
    """
    told = (
        f"{_told(record['paper'])} over {record['paper_steps']:,} steps"
        f" ({record['reference']}), scaled to {_told(record['scaled'])} over"
        f" {record['steps']:,}"
    )
    return told + (f"; not kept: {record['limited']}" if record["limited"] else "")


def unscaled(entries: Sequence[MethodEntry], record: Mapping[str, Any]) -> list[str]:
    """The methods that couple their members and say nothing about other lengths."""
    alone = (Independent, Wrapper)  # a wrapper by itself goes around independent members
    return [
        entry.name
        for entry in entries
        if entry.name not in record and not issubclass(entry.load(), alone)
    ]


def _told(options: Mapping[str, Any]) -> str:
    return " ".join(
        f"{key}={value:.4g}" if isinstance(value, float) else f"{key}={value}"
        for key, value in options.items()
    )
