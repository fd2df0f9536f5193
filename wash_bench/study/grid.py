"""The grid: which settings of which methods are tried.

On the command line ``wash.p=0.01,0.03`` gives an option's values; of several options of a method
every combination is tried. A file gives the same as tables, and a list of tables where not every
combination is meant::

    [wash]
    p = [0.003, 0.01, 0.03]

    [[papa]]
    every = 10
    alpha = [0.97, 0.9]

    [[papa]]
    every = 3
    alpha = 0.0
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic.fields import FieldInfo

from wash_bench.errors import UsageError
from wash_bench.files import read_toml
from wash_bench.plugins.entry import MethodEntry
from wash_bench.plugins.options import bounds_of, parse_set
from wash_bench.study.sweep import nested

Grid = dict[str, list[dict[str, Any]]]
"""By method, tables of options with their values; each table is swept by itself."""


def read_grid(items: Sequence[str]) -> Grid:
    """The grid of ``METHOD.OPTION=V1,V2`` and of TOML files; a UsageError if it is none."""
    grid: Grid = {}
    for method, options in parse_set([item for item in items if "=" in item]).items():
        grid[method] = [options]
    for item in items:
        if "=" in item:
            continue
        for method, tables in _read_file(Path(item)).items():
            tables = tables if isinstance(tables, list) else [tables]
            if not all(isinstance(table, Mapping) for table in tables):
                raise UsageError(f"--grid {item}: write {method}.OPTION = [VALUES]")
            if method in grid:
                raise UsageError(f"--grid {item}: {method} has its grid already; give one of them")
            grid[method] = [_underscored(table) for table in tables]
    if not grid:
        raise UsageError("nothing to tune: give --grid METHOD.OPTION=V1,V2, or a file of grids")
    return grid


def widened(
    best: Mapping[str, Any], ends: Mapping[str, Sequence[float]], entry: MethodEntry
) -> list[dict[str, Any]]:
    """Return settings beyond the edges of a grid, as its own steps go on.

    Args:
        best: the options that were chosen, a wrapper's under NAME.OPTION.
        ends: of each option at whose edge the best stands, the values tried, the edge last.
        entry: the method.
    """
    found = []
    for name, values in ends.items():
        field = entry.load().Options.model_fields.get(name)
        value = field and _beyond(values[-2], values[-1], field)
        if value is not None:
            found.append(nested({**best, name: value}))
    return found


def _beyond(before: float, edge: float, field: FieldInfo) -> float | None:
    """The next value after an edge: by the same factor, or as much nearer to a bound."""
    whole = isinstance(before, int) and isinstance(edge, int)
    bounds = bounds_of(field)
    up = edge > before
    bound = bounds.get("le", bounds.get("lt")) if up else bounds.get("ge", bounds.get("gt"))
    if edge == bound or 0 in (before, edge):
        return None
    value = edge * edge / before
    if whole:
        value = round(value) if round(value) != edge else edge + (1 if up else -1)
    beyond = bound is not None and (value >= bound if up else value <= bound)
    if beyond and whole:
        value = bound if bound in (bounds.get("le"), bounds.get("ge")) else edge
    elif beyond and bound is not None:
        value = bound - (bound - edge) ** 2 / (bound - before)
    value = value if whole else float(f"{value:.3g}")
    return value if value != edge else None


def _read_file(path: Path) -> dict[str, Any]:
    try:
        return read_toml(path)
    except OSError as error:
        raise UsageError(f"cannot read --grid {path}: {error.strerror}; check the path") from None
    except ValueError as error:
        raise UsageError(f"--grid {path} is not valid TOML: {error}") from None


def _underscored(table: Mapping[str, Any]) -> dict[str, Any]:
    return {key.replace("-", "_"): value for key, value in table.items()}
