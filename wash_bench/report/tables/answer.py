"""The first line of a table: what its numbers say, in a sentence or two."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

from wash_bench.known_methods import INDEPENDENT
from wash_bench.report.numbers.comparisons import Comparisons
from wash_bench.report.numbers.stats import ENOUGH, by_seed, estimate, paired
from wash_bench.report.tables.table import format_fixed, format_sig

if TYPE_CHECKING:
    import pandas as pd

NAMED = 4  # rows that a sentence names


def answer(groups: Mapping[str, pd.DataFrame], compared: Comparisons) -> str:
    """Say which method delivers the best network, whether that is significant, and at what price.

    Args:
        groups: the finished cells of each row.
        compared: the comparisons between the rows.

    Returns:
        Sentences; empty where no network has an accuracy.
    """
    accuracy = {row: by_seed(cells, "method_acc") for row, cells in groups.items()}
    means = {row: estimate(values.values()).mean for row, values in accuracy.items()}
    means = {row: mean for row, mean in means.items() if not math.isnan(mean)}
    if not means:
        return ""
    if len(means) == 1:
        return _of_one(*means, groups)
    sent = {row: float(groups[row]["sent_bytes_total"].mean()) / 1e6 for row in means}
    if len(means) == 2:
        return _of_two(groups, accuracy, means, sent)
    return _of_many(groups, compared, means, sent)


def _of_one(row: str, groups: Mapping[str, pd.DataFrame]) -> str:
    cells = groups[row]
    text = f"{row} delivers a network with {_mean(cells, 'method_acc')} %"
    if "member_acc_mean" not in cells or "ensemble_acc" not in cells:
        return f"{text}."
    members, ensemble = _mean(cells, "member_acc_mean"), _mean(cells, "ensemble_acc")
    return f"{text}; its members have {members} %, their ensemble {ensemble} %."


def _of_two(
    groups: Mapping[str, pd.DataFrame],
    accuracy: Mapping[str, Mapping[int, float]],
    means: Mapping[str, float],
    sent: Mapping[str, float],
) -> str:
    one, other = sorted(means, key=lambda row: -means[row])
    difference = paired(accuracy[one], accuracy[other])
    best, second = (_with_size(row, groups) for row in (one, other))
    text = f"{best} reaches {_points(means[one])} %, {second} {_points(means[other])} %"
    if not difference.n:
        return f"{text} (no seed in common). {_traffic(one, other, sent)}".rstrip()
    if set(accuracy[one]) != set(accuracy[other]):  # else not the difference of these two means
        text += f"; on the {difference.n} seed{'s' * (difference.n != 1)} of both"
    if difference.half_width is None:
        return (
            f"{text}: difference {_points(difference.mean)} points ({_too_few(difference.n)}). "
            f"{_traffic(one, other, sent)}"
        ).rstrip()
    low, high = (difference.mean + side * difference.half_width for side in (-1, 1))
    verdict = "not significantly different" if difference.contains_zero else "significant"
    return (
        f"{text}: difference {_points(difference.mean)} points, 95 % interval {_points(low)} to "
        f"{_points(high)}, {verdict}. {_traffic(one, other, sent)}"
    ).rstrip()


def _of_many(
    groups: Mapping[str, pd.DataFrame],
    compared: Comparisons,
    means: Mapping[str, float],
    sent: Mapping[str, float],
) -> str:
    single = [row for row in means if not groups[row]["method_networks"].mean() > 1]
    if not single:
        return ""
    best = max(single, key=lambda row: means[row])
    text = f"The best single network is {best}'s, with {_points(means[best])} %"
    independent = [row for row in means if groups[row]["method"].iloc[0] == INDEPENDENT]
    if independent:
        ensemble = _mean(groups[independent[0]], "ensemble_acc")
        text += f"; the ensemble of independent networks has {ensemble} %"
    letters = compared.letters.get("method_acc", {})
    if best not in letters:
        seeds = groups[best]["seed"].nunique()
        return f"{text} ({_too_few(seeds)})." if seeds < ENOUGH else f"{text}."
    others = [row for row in single if row != best]
    if missing := [row for row in others if row not in letters]:
        text += f". Not compared (too few common seeds, or collapsed): {_list(missing)}"
    judged = [row for row in others if row in letters]
    equal = [row for row in judged if set(letters[row]) & {*letters[best]}]
    if not equal:
        rest = "All other" + " compared" * bool(missing) + " methods that deliver one network"
        return f"{text}. {rest} are significantly less accurate." if judged else f"{text}."
    least = min([best, *equal], key=lambda row: (math.isnan(sent[row]), sent[row]))
    text += f". Not significantly less accurate: {_list(equal)}"
    if least == best:
        return f"{text}; {best} sends the least of these, {format_sig(sent[best])} MB."
    return (
        f"{text}; of these {least} sends the least, {format_sig(sent[least])} MB per member "
        f"({best}: {format_sig(sent[best])} MB)."
    )


def _with_size(row: str, groups: Mapping[str, pd.DataFrame]) -> str:
    networks = groups[row]["method_networks"].mean()
    return f"{row} ({networks:.2g} networks)" if networks > 1 else row


def _too_few(seeds: int) -> str:
    return f"{seeds} seed{'s' * (seeds != 1)}: too few for an interval, run {ENOUGH} or more"


def _traffic(one: str, other: str, sent: Mapping[str, float]) -> str:
    less, more = sorted((one, other), key=lambda row: sent[row])
    if math.isnan(sent[less] + sent[more]) or sent[more] < 1.05 * sent[less] or not sent[more]:
        return ""
    if not sent[less]:
        return f"{less} sends nothing, {more} {format_sig(sent[more])} MB per member."
    return f"{less} sends {format_sig(sent[more] / sent[less])} times less than {more}."


def _list(rows: list[str]) -> str:
    more = f" and {len(rows) - NAMED} more" * (len(rows) > NAMED)
    return ", ".join(rows[:NAMED]) + more


def _mean(cells: pd.DataFrame, key: str) -> str:
    return _points(estimate(by_seed(cells, key).values()).mean)


def _points(value: float) -> str:
    return format_fixed(value, 1)
