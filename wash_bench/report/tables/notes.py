"""The notes below a table: how to read its marks, and what sets some of its rows apart."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

from wash_bench.plugins.options import as_typed
from wash_bench.report.numbers.comparisons import MANY, Comparisons
from wash_bench.report.numbers.diagnosis import diagnose_drop
from wash_bench.report.numbers.machines import environment_warning
from wash_bench.report.numbers.pareto import changed_settings
from wash_bench.study.sweep import all_told

if TYPE_CHECKING:
    import pandas as pd

    from wash_bench.report.read.frames import Records

# The average counts as failed this many points of accuracy below its members.
FAR_BELOW = 10.0
# What says why an average fell.
_OF_FALL = (
    *("average_acc", "member_acc_mean", "average_bn_acc", "member_bn_acc_mean"),
    *("barrier_loss_max", "weight_cosine"),
)
LETTERS = (
    "Rows that share a letter are not significantly different at 95 % (Tukey, over all pairs of"
    " rows; two-way fit of rows and seeds)."
)
EQUIVALENT_SIZE = (
    "DEE, the deep-ensemble equivalent: so many independent networks, as an ensemble, have the same"
    " NLL (calibrated where it was measured; Ashukha et al. 2020)."
)


def below(
    records: Records, cells: pd.DataFrame, keys: Sequence[str], compared: Comparisons
) -> list[str]:
    """Notes under the table: comparisons, broken averages, mixed machines, settings, failures."""
    finished = cells[cells["status"] == "finished"]
    lines = [LETTERS] if any(compared.letters.get(key) for key in keys) else []
    lines += of_collapsed(compared.collapsed)
    if "deep_ensemble_equivalent" in keys:
        lines.append(EQUIVALENT_SIZE)
    if compared.baseline and "less_baseline" in keys:
        lines += _against(compared, records.options.margin)
    lines += broken_averages(finished)
    lines += no_numbers(finished)
    lines += own_settings(finished)
    lines += unequal_work(finished)
    lines += students(finished)
    lines += unequal_images(finished)
    lines += _couplings(finished)
    lines += _shared_trainings(finished)
    lines += _unequal_seeds(finished)
    lines += filter(None, [environment_warning(records.environments_of(cells))])
    lines += _settings(cells)
    for _, cell in cells[cells["status"] == "failed"].iterrows():
        reason = cell["reason"] or "no reason recorded"
        lines.append(f"Failed: {cell['variant']}, seed {cell['seed']}: {reason}")
    return lines


def of_collapsed(rows: Sequence[str]) -> list[str]:
    """The rows that take no part in comparisons, in a line."""
    if not rows:
        return []
    return [
        f"Collapsed, and left out of the comparisons: {', '.join(rows)} (accuracy below half of"
        f" the members', or NLL above {MANY:g} times the rows' median)."
    ]


def _against(compared: Comparisons, margin: float | None) -> list[str]:
    """What the comparisons with the baseline say."""
    baseline, verdicts = compared.baseline, compared.verdicts("method_acc")
    lines = [
        f"delivered − {baseline}: accuracy in points, paired by seed."
        + " *: significantly different (Dunnett, 95 %)." * any(verdicts.values())
    ]
    same = [row for row, different in verdicts.items() if not different]
    if same:
        lines.append(f"Not significantly different from {baseline}: {', '.join(same)}.")
    if margin is not None and verdicts:
        within = ", ".join(compared.equivalent()) or "none"
        lines.append(f"Equivalent within {margin:g} points of {baseline} (TOST, 5 %): {within}.")
    return lines


def broken_averages(finished: pd.DataFrame) -> list[str]:
    """A line for each method whose averaged model fell far below its members, and why."""
    said: dict[str, list[str]] = {}
    for variant, rows in finished.groupby("variant", sort=False):
        measured = {key: rows[key].mean() for key in _OF_FALL if key in rows}
        if text := diagnose_drop(measured, FAR_BELOW):
            said.setdefault(text, []).append(str(variant))
    return [f"{', '.join(variants)}: {text}" for text, variants in said.items()]


def no_numbers(finished: pd.DataFrame) -> list[str]:
    """A line for each method with an averaged model whose outputs are not numbers."""
    lines = []
    for variant, rows in finished.groupby("variant", sort=False):
        broken = rows[rows["average_acc"].isna() & rows["member_acc_mean"].notna()]
        if len(broken):
            lines.append(
                f"{variant}: the outputs of the average are not numbers at"
                f" {_seeds(sorted(set(broken['seed'])))}, so that it has no accuracy there."
            )
    return lines


def own_settings(finished: pd.DataFrame) -> list[str]:
    """Return a line for each method that changes the settings of its training, as ``single``."""
    lines = []
    for variant, rows in finished.groupby("variant", sort=False):
        if changes := changed_settings(rows):
            n = changes.pop("population", rows["population"].iloc[0])
            changed = ", ".join(f"{name} {as_typed(value)}" for name, value in changes.items())
            networks = "one network" if n == 1 else f"{n} networks"
            lines.append(f"{variant} trains {networks}" + (f" with {changed}." if changed else "."))
    return lines


def unequal_work(finished: pd.DataFrame) -> list[str]:
    """A line for each method whose members trained less than the others', as DART's do."""
    lines = []
    for variant, rows in finished.groupby("variant", sort=False):
        share = rows["member_steps_share"].mean()
        if share < 1 - 1e-9:
            lines.append(
                f"{variant} computes less: its members together took {100 * share:.3g} % of the"
                " optimizer steps of a population that trains in full."
            )
    return lines


def students(finished: pd.DataFrame) -> list[str]:
    """Return a line for each method that trains a further network after the population."""
    if "student_steps" not in finished:
        return []
    return [
        f"{variant} trains one more network after the population:"
        f" {rows['student_steps'].mean():,.0f} steps, {rows['student_seconds'].mean():.0f} s, on"
        f" top of the {rows['steps'].mean():,.0f} of each member."
        for variant, rows in finished.dropna(subset="student_steps").groupby("variant", sort=False)
    ]


def unequal_images(finished: pd.DataFrame) -> list[str]:
    """A line for each method whose members see other images than the others', as DART's do."""
    if "own_augmentation_share" not in finished:
        return []
    shares = {
        variant: rows["own_augmentation_share"].fillna(0).mean()
        for variant, rows in finished.groupby("variant", sort=False)
    }
    if all(shares.values()):
        return []
    return [
        f"{variant} is not on equal terms: {100 * share:.3g} % of its members' steps were under"
        " augmentation of its own, which the others do not have."
        for variant, share in shares.items()
        if share
    ]


def _couplings(finished: pd.DataFrame) -> list[str]:
    """How ``--rescale-coupling`` scaled each method's coupling."""
    if "coupling" not in finished:
        return []
    lines = []
    for variant, rows in finished.groupby("variant", sort=False):
        lines += [f"Coupling of {variant}: {text}." for text in rows["coupling"].unique() if text]
    return lines


def _shared_trainings(finished: pd.DataFrame) -> list[str]:
    lines = {}
    for _, rows in finished.groupby("training_id", sort=False):
        if (names := rows["variant"].unique()).size > 1:
            lines[f"{' and '.join(names)} are read off the same trainings."] = None
    return list(lines)


def _unequal_seeds(finished: pd.DataFrame) -> list[str]:
    every = set(finished["seed"])
    lines = []
    for variant, rows in finished.groupby("variant", sort=False):
        own = sorted(set(rows["seed"]))
        if set(own) != every:
            lines.append(f"{variant}: only {_seeds(own)}.")
    return lines


def _settings(cells: pd.DataFrame) -> list[str]:
    parts = []
    for variant, rows in cells.groupby("variant", sort=False):
        if options := all_told(json.loads(rows["options"].iloc[0])):
            parts.append(f"{str(variant).split(' (')[0]}: {options}")
    return [f"Options: {'; '.join(parts)}."] if parts else []


def _seeds(seeds: list[int]) -> str:
    return f"seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}"
