"""From preset, preset file and command line to one RunConfig; later layers win.

No torch, so that a mistake is answered at once: names are looked up in the light catalogues and
values are checked by pydantic before it is loaded.
"""

import math
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

from pydantic import InstanceOf

from wash_bench.config import DEFAULT_METHODS, RunConfig, TrainingConfig
from wash_bench.errors import UsageError, nearest
from wash_bench.loggers.feed import check_loggers
from wash_bench.plugins.registry import MethodEntry
from wash_bench.study.barrier_budget import within_budget
from wash_bench.study.cells import Cell, MethodSpec, cells_of, labelled
from wash_bench.study.checks import check_names
from wash_bench.study.coupling import of_coupling, paper_options, reference, scaled
from wash_bench.study.local import LocalConfig
from wash_bench.study.methods import find_methods, merge_options
from wash_bench.study.options import LOCAL, OPTIONS
from wash_bench.study.presets import DEFAULT_PRESET, NO_PRESET, find_preset, read_preset
from wash_bench.study.provenance import origin
from wash_bench.study.sources import ConfigSource, merge_model_args, parse_list
from wash_bench.study.sweep import variants
from wash_bench.study.validation_errors import checked

FRESH = {"subset_seed": "seed", "init": "shared"}
"""Defaults of a run without a preset that records of earlier runs do not have. Besides, a coupling
that nothing sets is the papers', rescaled."""


StartFn = Callable[[TrainingConfig, Collection[str], bool], tuple[dict[str, Any], str]]
"""Of a configuration, the chosen keys and whether to download: settings by key, and a sentence."""


class Resolved(LocalConfig):
    """A run, ready to be planned or started.

    Attributes:
        config: its settings; ``set`` and ``coupling`` of the first variant of each method.
        specs: the methods with their own options, a method's variants together.
        origin: a line that says where the settings come from.
    """

    config: InstanceOf[RunConfig]
    specs: list[InstanceOf[MethodSpec]]
    origin: str = ""

    @property
    def entries(self) -> list[MethodEntry]:
        """The methods, in the order of ``config.methods``."""
        return list({spec.entry.name: spec.entry for spec in self.specs}.values())

    def cells(self) -> tuple[Cell, ...]:
        """Return a cell of each method and variant at each seed, seeds outside."""
        return cells_of(self.config, self.specs, self.out)


def resolve(
    preset: str | None,
    preset_file: Path | None,
    options: Mapping[str, Any],
    *,
    defaults: bool = False,
    start: StartFn | None = None,
) -> Resolved:
    """Lay the options over the preset file over the preset, and check everything.

    Args:
        preset: name of a preset in the package. None means ``digits``; with a preset file, or
            for other data, which its settings were not chosen for, the built-in defaults.
        preset_file: the user's own preset.
        options: what the command line gave, by key with underscores; None means not given.
        defaults: start from the built-in defaults where no preset is named.
        start: asks the network that members start from for further settings.

    Returns:
        The run; an unknown name or key, or a value out of range, is refused in one line.
    """
    layers: list[ConfigSource] = []
    fresh: Mapping[str, Any] = {} if defaults else FRESH
    tuned = None
    name = NO_PRESET
    found = find_preset(preset or DEFAULT_PRESET)
    of_data = options.get("dataset") in (None, found.values["dataset"])
    if preset or (of_data and not (preset_file or defaults)):
        name = found.name
        layers.append(tuned := ConfigSource(found.path.name, found.values))
        fresh = {}
    if preset_file is not None:
        own = read_preset(preset_file)
        layers.append(ConfigSource(str(preset_file), own.values))
        name = own.name
    layers.append(ConfigSource("", given(options)))
    return _Resolver(layers, tuned, fresh, start).run(name)


def local_config(options: Mapping[str, Any]) -> LocalConfig:
    """The settings that do not change what a run finds, of the command line alone."""
    return checked(LocalConfig, given(options), ConfigSource("", {}).label)


def given(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options that were given."""
    return {key: value for key, value in options.items() if value not in (None, [], ())}


class _Resolver:
    """Lays the layers over each other; ``tuned`` is that of a preset of the package.

    ``fresh`` has the defaults that are not the fields' own.
    """

    def __init__(
        self,
        layers: list[ConfigSource],
        tuned: ConfigSource | None,
        fresh: Mapping[str, Any],
        start: StartFn | None,
    ) -> None:
        self.layers = layers
        self.tuned = tuned
        self.fresh = fresh
        self.start = start
        self.source: dict[
            str, tuple[ConfigSource, Any]
        ] = {}  # key -> the layer that decides, its value

    def run(self, preset: str) -> Resolved:
        for layer in self.layers:
            self._check_keys(layer)
            self.source |= {key: (layer, value) for key, value in layer.values.items()}
        values = {**self.fresh} | {key: value for key, (_, value) in self.source.items()}
        for key, (layer, _) in self.source.items():
            if kind := OPTIONS[key].items:
                values[key] = parse_list(layer, key, kind)
        values["model_arg"] = merge_model_args(self.layers)
        entries = find_methods(values.get("methods", DEFAULT_METHODS), values.get("method", ()))
        values["methods"] = tuple(entry.name for entry in entries)
        of_papers, as_given = None, frozenset[str]()
        if values.get("coupling_budget", "paper" if self.fresh else "given") == "paper":
            papers = {"set": paper_options(values.get("dataset", ""))}
            of_papers = ConfigSource("the papers' preset", papers)
        options = merge_options(entries, self.layers, of_papers, self.tuned)
        if of_papers and "coupling_budget" not in values:
            said = merge_options(entries, self.layers)
            as_given = frozenset(e.name for e in entries if of_coupling(e, said.get(e.name, {})))
            options |= {name: said[name] for name in as_given}
        values["set"] = options
        specs = [
            MethodSpec(e, own) for e in entries for own in variants(e, options.get(e.name, {}))
        ]
        sections = self._sections(values)
        local, top = sections.pop(LOCAL), sections.pop("")
        config = checked(RunConfig, top | sections | {"preset": preset}, self._label)
        check_names(config.training)
        of_start = ""
        if self.start is not None:
            more, of_start = self.start(
                config.training, frozenset(self.source), bool(local.get("download"))
            )
            training = sections["training"] | self._sections(more)["training"]
            sections = {**sections, "training": training}
            if more:
                config = checked(RunConfig, top | sections | {"preset": preset}, self._label)
        reduced = ""
        if self.fresh:
            evaluation, reduced = within_budget(config, self.source)
            config = config.model_copy(update={"evaluation": evaluation})
        if of_papers:
            paper = _training_of(reference(config.training.dataset))
            specs = [
                spec if spec.entry.name in as_given else scaled(spec, config.training, paper)
                for spec in specs
            ]
        specs = labelled(specs)
        first = {spec.entry.name: spec for spec in reversed(specs)}
        own = {name: dict(first[name].options) for name in config.methods if first[name].options}
        record = {name: dict(first[name].coupling) for name in own if first[name].coupling}
        config = config.model_copy(update={"set": own, "coupling": record})
        told = origin(self.layers, self.tuned, config.training.dataset)
        told = " ".join(filter(None, [told, of_start, reduced]))
        found = {"config": config, "specs": specs, "origin": told}
        resolved = checked(Resolved, local | found, self._label)
        check_loggers(resolved.log)
        return resolved

    def _check_keys(self, layer: ConfigSource) -> None:
        for key in layer.values:
            if key not in OPTIONS:
                hyphened = key.replace("_", "-")
                hint = nearest(hyphened, [item.flag[2:] for item in OPTIONS.values()])
                where = f" in {layer.file}" if layer.file else ""
                raise UsageError(f"unknown key {hyphened!r}{where}: {hint}")

    def _sections(self, values: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
        """The values by section of the configuration and field; numbers that are none refused."""
        sections: dict[str, dict[str, Any]] = {item.section: {} for item in OPTIONS.values()}
        for key, value in values.items():
            item = OPTIONS[key]
            if isinstance(value, bool) and not item.switch:
                raise UsageError(f"{self._label(item.name, value)}: must not be true or false")
            if float in (item.items, item.field.annotation) and not _finite(value):
                raise UsageError(f"{self._label(item.name, value)}: must be finite")
            sections[item.section][item.name] = value
        return sections

    def _label(self, name: str, value: Any) -> str:
        """How an error line names a field and what was given for it, and where."""
        key = next((key for key, item in OPTIONS.items() if item.name == name), name)
        layer, value = self.source.get(key, (self.layers[-1], value))
        return layer.label(key, value)


def _finite(value: Any) -> bool:
    """Whether no infinity or not-a-number is meant; another text is for pydantic to judge."""
    try:
        return all(map(_finite, value)) if isinstance(value, tuple) else math.isfinite(float(value))
    except (TypeError, ValueError):
        return True
    except OverflowError:  # a whole number beyond any float
        return False


def _training_of(preset: str) -> TrainingConfig:
    return resolve(preset, None, {}).config.training
