"""What a table's trainings cost."""

from collections.abc import Sequence
from dataclasses import dataclass

from wash_bench.paper.cells import Line
from wash_bench.runner.plan import CellPlan, plan_cells


@dataclass(frozen=True)
class LinePlan:
    """What a line costs: a seed's cell, and seconds of all seeds that no earlier line trains."""

    line: Line
    cell: CellPlan
    seconds: float


def plan_lines(lines: Sequence[Line], *, download: bool) -> tuple[list[LinePlan], list[str]]:
    """Count and time every line, nothing trained; the plans, and their notes."""
    plan = plan_cells([cell for line in lines for cell in line.cells], download=download)
    left = iter(plan.cells)
    plans = []
    for line in lines:
        first, *others = [next(left) for _ in line.cells]
        seconds = first.seconds + sum(other.seconds for other in others)
        plans.append(LinePlan(line, first, seconds))
    return plans, plan.notes
