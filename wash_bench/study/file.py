"""Study files: a list of rows, each a method with settings of its own, as TOML.

A study has a title, a preset to start from with settings laid over it, and rows. A row is the name
of a method, or a table with a label, a method, options (``set``) and settings. Lists are short for
several rows: of methods (``kind:merge`` stands for all of a kind), of an option's values, and of
settings under ``each``; ``{method}`` and the like in a label are filled in. A study may have
scales, each with a preset, settings and perhaps rows of its own, and name papers whose numbers
stand beside ours.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError

from wash_bench.config.renamed import from_file, recorded
from wash_bench.errors import UsageError, nearest
from wash_bench.files import read_toml
from wash_bench.metrics import FURTHER, LEADING, SUMMARY
from wash_bench.plugins.names import parts
from wash_bench.plugins.options import parse_set
from wash_bench.plugins.registry import find_method, method_names
from wash_bench.study.cells import Cell, cells_of
from wash_bench.study.options import LOCAL, OPTIONS
from wash_bench.study.resolve import Resolved, StartFn, resolve
from wash_bench.study.sources import ConfigSource, parse_list
from wash_bench.study.sweep import differing, told, variants

FOLDER = Path(__file__).resolve().parents[1] / "tables"
SCALES = ("paper", "small", "converged")
KIND = "kind:"  # before a kind of methods, in place of a method's name
METRICS = (
    *(metric.key for metric in (*SUMMARY, *FURTHER) if metric.unit != "text"),
    "sent_vs_papa",
)
"""What a table of a study can have as columns."""
Layout = Literal["paper", "main", "methods"]
LAYOUTS: tuple[str, ...] = get_args(Layout)


Augment = Annotated[
    Literal["homogeneous", "heterogeneous"], BeforeValidator(partial(recorded, "augment"))
]


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


class Row(_Strict):
    """One row: a method with options, and settings of its own."""

    label: str
    method: str
    set: dict[str, Any] = {}
    settings: dict[str, Any] = {}

    def variants(self) -> list[Row]:
        """Return the row, or one for each variant of a method that it sweeps, by label."""
        if not any(isinstance(value, list | str) for value in self.set.values()):
            return [self]
        found = variants(find_method(self.method), self.set)
        names = differing(found)
        return [
            self.model_copy(
                update={"set": own, "label": " ".join(filter(None, [self.label, told(own, names)]))}
            )
            for own in found
        ]


def _expanded(rows: Any) -> Any:
    """Rows of one method and one value of each setting."""
    if not isinstance(rows, list):
        return rows
    found: list[Any] = []
    for row in rows:
        if isinstance(row, str):
            found += [{"label": name, "method": name} for name in _methods([row])]
        elif isinstance(row, dict) and isinstance(row.get("method"), str | list):
            found += _each(row)
        else:
            found.append(row)
    return found


def _each(row: Mapping[str, Any]) -> list[dict[str, Any]]:
    each, methods = row.get("each", {}), row["method"]
    if not isinstance(each, dict) or not all(isinstance(v, list) for v in each.values()):
        raise ValueError("write each as SETTING = [VALUES]")
    names = _methods(methods if isinstance(methods, list) else [methods])
    default = ", ".join(["{method}", *(f"{key} = {{{key}}}" for key in each)])
    found = []
    for name, *values in itertools.product(names, *each.values()):
        label, settings = str(row.get("label", default)), dict(row.get("settings", {}))
        for key, value in {"method": name, **dict(zip(each, values, strict=True))}.items():
            label = label.replace(f"{{{key}}}", str(value))
        settings |= dict(zip(each, values, strict=True))
        rest = {key: value for key, value in row.items() if key != "each"}
        found.append(rest | {"label": label, "method": name, "settings": settings})
    return found


def _methods(names: Iterable[Any]) -> list[str]:
    """Names of methods, those of a kind in place of ``kind:KIND``."""
    found: list[str] = []
    for name in map(str, names):
        before, kind, after = name.partition(KIND)
        found += [before + each for each in method_names(after)] if kind else [name]  # type: ignore[arg-type]
    return found


Rows = Annotated[tuple[Row, ...], BeforeValidator(_expanded)]


class Scale(_Strict):
    """What a study runs at a scale; where nothing is said, as the preset says."""

    preset: str
    population: tuple[int, ...] = ()
    augment: tuple[Augment, ...] = ()
    seeds: tuple[int, ...] = (0, 1, 2)
    settings: dict[str, Any] = {}
    row: Rows = ()


class Report(_Strict):
    """What is written when a study has been run.

    Attributes:
        layout: the table of the rows, or a report of all cells (``wash-bench report``).
        figures: of a report: names separated by commas, all or none.
        runs: further run folders that a report reads.
        keep: folder that the table, or ``files`` of the report, are written to.
        files: of a report, what is kept; ``*`` stands for any part of a name.
    """

    layout: Layout = "paper"
    figures: str = "none"
    runs: tuple[Path, ...] = ()
    keep: Path | None = None
    files: tuple[str, ...] = ("table.md", "summary.csv", "environment.csv")


class StudyFile(_Strict):
    """A study as its file has it; without scales, the fields of the only one stand beside."""

    title: str
    about: str = ""
    papers: tuple[str, ...] = ()
    metrics: tuple[str, ...] = ("member_acc_mean", "ensemble_acc", "average_acc")
    row: Rows = ()
    report: Report = Report()
    scale: dict[str, Scale] = {}
    preset: str = ""
    population: tuple[int, ...] = ()
    augment: tuple[Augment, ...] = ()
    seeds: tuple[int, ...] = ()
    settings: dict[str, Any] = {}

    @property
    def columns(self) -> tuple[str, ...]:
        """The scores of what each row delivers, and the study's metrics."""
        return tuple(dict.fromkeys((*LEADING, *self.metrics)))

    @property
    def scales(self) -> dict[str, Scale]:
        """The scales by name; the only one of a study without any has an empty name."""
        if self.scale:
            return self.scale
        own = ("preset", "population", "augment", "seeds", "settings")
        return {"": Scale(**{name: getattr(self, name) for name in own})}

    def rows(self, scale: str) -> list[Row]:
        """Return the rows at a scale, in order."""
        return [each for row in self.scales[scale].row or self.row for each in row.variants()]


@dataclass(frozen=True)
class NamedFile:
    """A study file with its name, which is also that of its lines in published.csv."""

    name: str
    file: StudyFile


@dataclass(frozen=True)
class Line:
    """A row at one N and one augmentation, with its cells over the seeds."""

    row: Row
    resolved: Resolved
    cells: tuple[Cell, ...]

    @property
    def population(self) -> int:
        """The number of members."""
        return self.resolved.config.training.population

    @property
    def augment(self) -> str:
        """The augmentation of the members."""
        return self.resolved.config.training.augment


@dataclass(frozen=True)
class Study:
    """A study at a scale, ready to be planned or run."""

    name: str
    scale: str
    file: StudyFile
    lines: tuple[Line, ...]

    @property
    def cells(self) -> list[Cell]:
        """The cells of all rows."""
        return [cell for line in self.lines for cell in line.cells]

    @property
    def local(self) -> Resolved:
        """How the study is carried out, which all rows have in common."""
        return self.lines[0].resolved

    @property
    def stem(self) -> str:
        """The name of the files that are written of it."""
        return f"{self.name}-{self.scale}" if self.scale else self.name


def table_names() -> list[str]:
    """Return the names of the package's tables, sorted."""
    return sorted(path.stem for path in FOLDER.glob("*.toml"))


def find_table(name: str) -> NamedFile:
    """Read a table of the package, or a TOML file of the user's; UsageError if there is none."""
    if name.endswith(".toml"):
        return read_study(Path(name))
    if name not in table_names():
        raise UsageError(f"unknown table {name!r}: {nearest(name, table_names())}")
    return read_study(FOLDER / f"{name}.toml")


def read_study(path: Path) -> NamedFile:
    """Read a study file; UsageError if it says something that a study does not have."""
    try:
        study = StudyFile.model_validate(read_toml(path))
    except OSError as error:
        raise UsageError(f"cannot read study {path}: {error.strerror}; check the path") from None
    except ValidationError as error:
        problem = error.errors()[0]
        place = ".".join(map(str, problem["loc"]))
        text = problem["msg"].removeprefix("Value error, ")
        raise UsageError(f"study {path}: {place}: {text}") from None
    except ValueError as error:
        raise UsageError(f"study {path} is not valid TOML: {error}") from None
    for metric in study.metrics:
        if metric not in METRICS:
            raise UsageError(f"study {path}: no metric {metric!r}; {nearest(metric, METRICS)}")
    for name, scale in study.scales.items():
        if not scale.preset:
            raise UsageError(f"study {path}: preset is missing: name one, or give a [scale.NAME]")
        if name and (study.preset or study.settings or study.seeds):
            raise UsageError(f"study {path}: preset, seeds and settings belong to [scale.{name}]")
        labels = [row.label for row in study.rows(name)]
        if not labels or len(set(labels)) < len(labels):
            where = f"scale {name}" if name else "it"
            raise UsageError(f"study {path}: {where} needs rows with different labels")
    return NamedFile(path.stem, study)


def study_of(
    named: NamedFile,
    scale: str = "",
    options: Mapping[str, Any] | None = None,
    *,
    population: Sequence[int] = (),
    augment: Sequence[str] = (),
    start: StartFn | None = None,
) -> Study:
    """Resolve the rows of a study, by augmentation, then N.

    Args:
        named: the file.
        scale: which of its scales; empty for the only one.
        options: of the command line, by key; they win over those of the file. ``methods`` keeps
            the rows of these methods, and ``set`` changes those that have the method.
        population: numbers of members in place of the file's.
        augment: augmentations in place of the file's.
        start: asks the network that members start from for settings.

    Returns:
        The study.

    Raises:
        UsageError: there is no such scale, method or option, or a row cannot be.
    """
    scales, given = named.file.scales, dict(options or {})
    if not scale and len(scales) == 1:
        (scale,) = scales
    if scale not in scales:
        known = ", ".join(filter(None, scales)) or "none"
        raise UsageError(f"study {named.name} has no scale {scale!r}: it has {known}")
    of_scale, rows = scales[scale], named.file.rows(scale)
    rows = _chosen(named, rows, given.pop("methods", None))
    sets = _sets(given.pop("set", None), rows)
    lines = []
    for kind in augment or of_scale.augment or [None]:
        for n in population or of_scale.population or [None]:
            for row in rows:
                over = {"population": n, "augment": kind} | given
                own = {
                    name: sets[name] for name in sets if name in (row.method, *parts(row.method))
                }
                lines.append(_line(named, of_scale, row, over, own, start))
    return Study(named.name, scale, named.file, tuple(lines))


def _chosen(named: NamedFile, rows: list[Row], methods: Any) -> list[Row]:
    if methods is None:
        return rows
    wanted = parse_list(ConfigSource("", {"methods": methods}), "methods", str)
    known = list(dict.fromkeys(row.method for row in rows))
    for name in wanted:
        if name not in known:
            raise UsageError(f"--methods {name}: study {named.name} has {', '.join(known)}")
    return [row for row in rows if row.method in wanted]


def _sets(items: Any, rows: Sequence[Row]) -> dict[str, Any]:
    """Options of the command line by method."""
    sets = dict(items) if isinstance(items, Mapping) else dict(parse_set(items or []))
    known = {name for row in rows for name in (row.method, *parts(row.method))}
    for name in sets:
        if name not in known:
            raise UsageError(f"--set {name}: the study has no row of it; {nearest(name, known)}")
    return sets


def _line(
    named: NamedFile,
    of_scale: Scale,
    row: Row,
    over: Mapping[str, Any],
    sets: Mapping[str, Mapping[str, Any]],
    start: StartFn | None,
) -> Line:
    laid = [of_scale.settings, row.settings]
    plain = [
        from_file({key.replace("-", "_"): value for key, value in each.items()}, named.name)
        for each in laid
    ]
    for key in plain[1]:
        if key in OPTIONS and OPTIONS[key].section == LOCAL:
            raise UsageError(f"study {named.name}, row {row.label!r}: {key} is of the whole study")
    options: dict[str, Any] = {**plain[0], **plain[1], "methods": [row.method]}
    if of_scale.seeds and "seeds" not in plain[1]:
        options["seeds"] = list(of_scale.seeds)
    tuned = options.pop("set", {})
    if plain[1].get("coupling_budget") == "paper":
        tuned = {}  # what the scale tuned is no setting of the papers' training
    # Options for all methods of the scale may name ones that this row does not have.
    names = (row.method, *parts(row.method))
    own = {method: dict(values) for method, values in tuned.items() if method in names}
    if row.set:
        own[row.method] = own.get(row.method, {}) | row.set
    for method, values in sets.items():
        own[method] = own.get(method, {}) | dict(values)
    options |= {key: value for key, value in over.items() if value is not None}
    try:
        found = resolve(of_scale.preset, None, options | ({"set": own} if own else {}), start=start)
    except UsageError as error:
        raise UsageError(f"study {named.name}, row {row.label!r}: {error}") from None
    specs = [replace(spec, label=row.label) for spec in found.specs]
    return Line(row, found, cells_of(found.config, specs, found.out))
