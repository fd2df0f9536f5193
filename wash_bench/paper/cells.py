"""From a declared table to the cells that it needs, through the normal resolver."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from wash_bench.errors import UsageError
from wash_bench.paper.declared import Named, Row
from wash_bench.settings.cells import Cell, cells_of

if TYPE_CHECKING:
    from wash_bench.settings.resolve import Resolved


@dataclass(frozen=True)
class Line:
    """One line of the finished table: a row at one N and one augmentation, over its seeds."""

    row: Row
    population: int
    augment: str
    resolved: Resolved

    @cached_property
    def cells(self) -> tuple[Cell, ...]:
        """Its cells, one a seed."""
        specs = [replace(spec, label=self.row.label) for spec in self.resolved.specs]
        return cells_of(self.resolved.config, specs)


def lines_of(
    named: Named,
    scale: str,
    *,
    population: Sequence[int] = (),
    augment: Sequence[str] = (),
    seeds: Sequence[int] = (),
    further: dict[str, Any] | None = None,
) -> list[Line]:
    """A table's lines at a scale, by augmentation, then N; what is given is not as declared."""
    if scale not in named.table.scale:
        known = ", ".join(named.table.scale)
        raise UsageError(f"table {named.name} has no scale {scale!r}: it has {known}")
    of_scale = named.table.scale[scale]  # type: ignore[index]
    return [
        Line(row, n, kind, _resolved(named, scale, row, n, kind, seeds, further or {}))
        for kind in augment or of_scale.augment
        for n in population or of_scale.population
        for row in named.table.rows(scale)
    ]


def _resolved(
    named: Named,
    scale: str,
    row: Row,
    n: int,
    augment: str,
    seeds: Sequence[int],
    further: dict[str, Any],
) -> Resolved:
    from wash_bench.settings.resolve import resolve

    of_scale = named.table.scale[scale]  # type: ignore[index]
    options: dict[str, Any] = {**of_scale.settings, **row.settings}
    options = {key.replace("-", "_"): value for key, value in options.items()}
    options |= {
        "methods": [row.method],
        "population": n,
        "augment": augment,
        "seeds": list(seeds or of_scale.seeds),
    }
    given = options.pop("set", {})
    if row.settings.get("coupling-budget", row.settings.get("coupling_budget")) == "paper":
        given = {}  # what the scale tuned is no setting of the papers' training
    # Options for all methods of the scale may name ones that this row does not have.
    own = {
        method: dict(values)
        for method, values in given.items()
        if method in (row.method, *row.method.split("+"))
    }
    if row.set:
        own[row.method] = own.get(row.method, {}) | row.set
    if own:
        options["set"] = own
    try:
        return resolve(of_scale.preset, None, options | further)
    except UsageError as error:
        raise UsageError(f"table {named.name}, row {row.label!r}: {error}") from None
