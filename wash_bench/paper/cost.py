"""What a table's trainings cost."""

from collections.abc import Sequence
from dataclasses import dataclass

from wash_bench.paper.cells import Line
from wash_bench.runner.experiment import tasks_of
from wash_bench.runner.plan import CellPlan, Times, plan_experiment


@dataclass(frozen=True)
class LinePlan:
    """What a line costs: a seed's cell, and seconds of all seeds that no earlier line trains."""

    line: Line
    cell: CellPlan
    seconds: float


def plan_lines(lines: Sequence[Line], *, download: bool) -> tuple[list[LinePlan], list[str]]:
    """Count and time every line, nothing trained; the plans, and their notes."""
    trained: set[str] = set()
    times: dict[str, Times] = {}
    plans = []
    notes: dict[str, None] = {}
    for line in lines:
        config, entries = line.resolved.config, line.resolved.entries
        # N and the augmentation change neither a member's step nor a forward pass by much.
        key = config.training.model_copy(
            update={"population": 2, "augment": "homogeneous", "init": "shared"}
        ).model_dump_json()
        one = config.model_copy(update={"seeds": config.seeds[:1]})
        plan = plan_experiment(one, entries, download=download, times=times.get(key))
        if plan.times:
            times[key] = plan.times
        (cell,) = plan.cells
        new = {task.training_id for task in tasks_of(config, entries)} - trained
        trained |= new
        plans.append(LinePlan(line, cell, len(new) * cell.seconds))
        notes |= dict.fromkeys(plan.notes)
    return plans, list(notes)
