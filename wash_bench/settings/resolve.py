"""From preset, preset file and command line to one RunConfig; later layers win.

Nothing heavy is imported here, so that a mistake is answered at once: names are looked up in the
light catalogues, values are checked by pydantic, and both before torch is loaded.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wash_bench.errors import UsageError, nearest
from wash_bench.plugins.names import WRAP, parts
from wash_bench.settings.layers import Layer, merge_model_args, origin, parse_list
from wash_bench.settings.local import LOCAL, local_options
from wash_bench.settings.presets import DEFAULT_PRESET, find_preset, read_preset

if TYPE_CHECKING:
    from wash_bench.config import RunConfig
    from wash_bench.plugins.registry import MethodEntry

_LISTS = {"methods": str, "method": str, "seeds": int, "milestones": float}
_DEVICE = re.compile(r"auto|cpu|mps|cuda(:\d+)?")


@dataclass(frozen=True)
class Resolved:
    """A run, ready to be planned or started.

    Attributes:
        config: the settings that identify the run.
        entries: the methods, in the order of ``config.methods``.
        out: folder of the run's records.
        jobs: cells trained side by side.
        procs: processes that share each population.
        threads: CPU threads a job or process (0: the cores divided by them).
        worker: whether the run folder is shared with other workers.
        stale: seconds after which a worker that gives no sign of life is replaced.
        shard: (i, k): the i-th, from 1, of k shares of the trainings.
        download: whether missing data may be downloaded.
        retry_failed: whether cells that failed before are trained again.
        report: whether the report is written at the end.
    """

    config: RunConfig
    entries: list[MethodEntry]
    out: Path
    jobs: int
    procs: int
    threads: int
    worker: bool
    stale: int
    shard: tuple[int, int]
    download: bool
    retry_failed: bool
    report: bool


def resolve(
    preset: str | None,
    preset_file: Path | None,
    options: Mapping[str, Any],
    *,
    defaults: bool = False,
) -> Resolved:
    """Lay the options over the preset file over the preset, and check everything.

    Args:
        preset: name of a preset in the package. None means ``digits``, or, with a preset file,
            the built-in defaults.
        preset_file: the user's own preset.
        options: what the command line gave, by key with underscores; None means not given.
        defaults: start from the built-in defaults where no preset is named.

    Raises:
        UsageError: for an unknown name or key or a value out of range, in one line.
    """
    layers: list[Layer] = []
    name = preset or DEFAULT_PRESET
    if preset is not None or not (preset_file or defaults):
        found = find_preset(name)
        layers.append(Layer(found.path.name, found.values))
    if preset_file is not None:
        own = read_preset(preset_file)
        layers.append(Layer(str(preset_file), own.values))
        name = own.name
    layers.append(Layer("", {key: v for key, v in options.items() if v not in (None, [], ())}))
    tuned = layers[0] if preset is not None or not (preset_file or defaults) else None
    return _Resolver(layers, tuned).run(name)


class _Resolver:
    """Lays the layers over each other; ``tuned`` is that of a preset of the package."""

    def __init__(self, layers: list[Layer], tuned: Layer | None = None) -> None:
        from wash_bench.config import EvaluationConfig, RunConfig, TrainingConfig

        self.layers = layers
        self.tuned = tuned
        self.paths: dict[str, tuple[str, ...]] = {}
        for section, model in (("training", TrainingConfig), ("evaluation", EvaluationConfig)):
            for field in model.model_fields:
                self.paths[field] = (section, field)
        self.paths["model_arg"] = self.paths.pop("model_args")
        for field in RunConfig.model_fields:
            if field not in ("preset", "training", "evaluation", "coupling"):
                self.paths[field] = (field,)
        self.known = {*self.paths, *LOCAL, "method"}
        self.source: dict[str, tuple[Layer, Any]] = {}  # key -> the layer that decides, its value

    def run(self, preset: str) -> Resolved:
        for layer in self.layers:
            self._check_keys(layer)
            self.source |= {key: (layer, value) for key, value in layer.values.items()}
        values = {key: value for key, (_, value) in self.source.items()}
        for key, kind in _LISTS.items():
            if key in values:
                values[key] = parse_list(self.source[key][0], key, kind)
        values["model_arg"] = merge_model_args(self.layers)
        entries = self._entries(values)
        values["methods"] = tuple(entry.name for entry in entries)
        values["set"] = self._set(entries, values)
        config = self._config(preset, values)
        self._check_names(config)
        if config.coupling_budget == "paper":
            config = self._scaled(config, entries)
        return Resolved(config, entries, **local_options(values, self._label))

    def _check_keys(self, layer: Layer) -> None:
        for key in layer.values:
            if key not in self.known:
                names = [known.replace("_", "-") for known in self.known]
                hyphened = key.replace("_", "-")
                hint = nearest(hyphened, names)
                raise UsageError(f"unknown key {hyphened!r} in {layer.file}: {hint}")

    def _entries(self, values: Mapping[str, Any]) -> list[MethodEntry]:
        from wash_bench.config import DEFAULT_METHODS
        from wash_bench.plugins.registry import find_method, load_method_file

        entries = []
        for target in (*values.get("methods", DEFAULT_METHODS), *values.get("method", ())):
            of_file = target in values.get("method", ()) or ".py:" in target
            entries.append(load_method_file(target) if of_file else find_method(target))
        names = [entry.name for entry in entries]
        for name in names:
            if names.count(name) > 1:
                raise UsageError(f"two methods are called {name!r}: rename one of them")
        return entries

    def _set(
        self, entries: list[MethodEntry], values: Mapping[str, Any]
    ) -> dict[str, dict[str, Any]]:
        from wash_bench.plugins.registry import make_method, method_names, parse_set, place_options
        from wash_bench.settings.coupling import of_coupling, paper_options

        running = {entry.name: entry for entry in entries}
        merged: dict[str, dict[str, Any]] = {}
        layers, of_papers = self.layers, None
        if values.get("coupling_budget") == "paper":
            of_papers = Layer(
                "the papers' preset", {"set": paper_options(values.get("dataset", ""))}
            )
            layers = [of_papers, *layers]
        for layer in layers:
            given = layer.values.get("set", {})
            where = f" in {layer.file}" if layer.file else ""
            if not isinstance(given, Mapping | list | tuple):
                raise UsageError(f"set{where}: write it as set.METHOD.OPTION = VALUE")
            tables = given if isinstance(given, Mapping) else parse_set(list(map(str, given)))
            # NAME's options hold for NAME+WRAPPER too, whose own come after them and win.
            for method, options in sorted(tables.items(), key=lambda item: WRAP in item[0]):
                if not isinstance(options, Mapping):
                    raise UsageError(f"set.{method}{where}: write it as set.METHOD.OPTION = VALUE")
                meant = [name for name in running if method in (name, *parts(name))]
                if not meant:
                    names = {*method_names(), *running}
                    if method not in names:
                        raise UsageError(
                            f"unknown method {method!r} in set{where}: {nearest(method, names)}"
                        )
                    if layer.file:
                        continue  # a preset has settings for methods that this run leaves out
                    raise UsageError(
                        f"--set {method}.{next(iter(options), '')}: this run has no method "
                        f"{method!r}; it has {', '.join(running)}"
                    )
                options = {key.replace("-", "_"): value for key, value in options.items()}
                for name in meant:
                    placed = place_options(running[name], method, options)
                    if of_papers and (layer is of_papers or layer is self.tuned):
                        coupling = of_coupling(running[name], placed)
                        others = {k: v for k, v in placed.items() if k not in coupling}
                        placed = coupling if layer is of_papers else others
                    held = merged.setdefault(name, {})
                    for key, value in placed.items():
                        table = isinstance(value, dict) and isinstance(held.get(key), dict)
                        held[key] = held[key] | value if table else value
        for name, entry in running.items():
            try:
                make_method(entry, merged.get(name, {}))
            except UsageError as error:  # an unknown option or a bad value
                raise UsageError(f"{error}{origin(self.layers, entry, str(error))}") from None
        return merged

    def _config(self, preset: str, values: Mapping[str, Any]) -> RunConfig:
        from pydantic import ValidationError

        from wash_bench.config import RunConfig
        from wash_bench.settings.complaints import first_error

        data: dict[str, Any] = {"preset": preset, "training": {}, "evaluation": {}}
        for key, path in self.paths.items():
            if key in values:
                self._check_number(key, values[key])
                (data if len(path) == 1 else data[path[0]])[path[-1]] = values[key]
        try:
            return RunConfig.model_validate(data)
        except ValidationError as error:
            name, value, text = first_error(error, RunConfig)
        key = {"model_args": "model_arg"}.get(name, name)
        if not key:  # a relation between two settings
            text = re.sub(r"\blr(_min)?\b", lambda name: "--" + name[0].replace("_", "-"), text)
            raise UsageError(f"{text}: change one of the two")
        layer, value = self.source.get(key, (self.layers[-1], value))
        raise UsageError(f"{layer.label(key, value)}: {text}")

    def _scaled(self, config: RunConfig, entries: list[MethodEntry]) -> RunConfig:
        from wash_bench.settings.coupling import scale

        options, record = scale(entries, config.set, config.training)
        return config.model_copy(update={"set": options, "coupling": record})

    def _check_number(self, key: str, value: Any) -> None:
        """Refuse what pydantic would take for a number: true for 1, infinity, not-a-number."""
        if isinstance(value, bool) and key != "channels_last":
            raise UsageError(f"{self.source[key][0].label(key, value)}: must not be true or false")
        for item in value if isinstance(value, list | tuple) else [value]:
            try:
                finite = not isinstance(item, float | str) or math.isfinite(float(item))
            except ValueError:
                continue  # not a number: for pydantic to judge
            if not finite:
                raise UsageError(f"{self.source[key][0].label(key, value)}: must be finite")

    def _check_names(self, config: RunConfig) -> None:
        from wash_bench.data.catalog import spec_of
        from wash_bench.data.place import check_place
        from wash_bench.models.names import check_architecture

        training = config.training
        check_architecture(training.model)
        spec = spec_of(training.dataset)
        check_place(training.dataset, training.data_dir)
        if not _DEVICE.fullmatch(training.device):
            hint = nearest(training.device, ["auto", "cpu", "cuda", "cuda:0", "mps"])
            raise UsageError(f"unknown device {training.device!r}: {hint}")
        images = spec.train_images or 0
        images = min(images, training.train_limit or images)
        if 0 < images < training.batch_size:
            raise UsageError(
                f"--batch-size {training.batch_size} is larger than the {images} training images "
                f"of {training.dataset}: give a smaller one"
            )

    def _label(self, key: str, value: Any) -> str:
        return self.source[key][0].label(key, value)
