"""The metrics: what each column of ``summary.csv`` is called, in which unit, and what is better.

Whoever measures, writes, compares or draws a metric reads this table. A new metric takes its
computation (in ``evaluate/``, or in ``runner/`` what a run costs) and its row here.
"""

import math
from dataclasses import dataclass
from functools import partial
from typing import Literal


@dataclass(frozen=True)
class Metric:
    """One row of the table.

    Attributes:
        key: its name in records and the column of ``summary.csv``.
        heading: its name in tables.
        networks: whether it is of ``one`` network or of all ``N``; None where it is of neither.
        unit: empty for counts, ``text`` for what is no number.
        digits: decimals; None for three significant digits, of what spans decades.
        better: which values are better; None where neither is.
        short: its heading in the terminal; empty where the terminal does not show it.
        legend: its name in figures, where that is another than the heading.
        per: what a value of ``summary.csv`` is divided by to be in the unit.
    """

    key: str
    heading: str
    networks: Literal["one", "N"] | None = None
    unit: str = ""
    digits: int | None = None
    better: Literal["higher", "lower"] | None = None
    short: str = ""
    legend: str = ""
    per: float = 1.0

    @property
    def titled(self) -> str:
        """The heading with the unit, unless that is a word of it."""
        named = not self.unit or self.unit in self.heading.split()
        return self.heading if named else f"{self.heading} ({self.unit})"

    @property
    def drawn(self) -> str:
        """The name in figures."""
        return self.legend or self.heading

    @property
    def ends(self) -> tuple[float, float]:
        """The least and the greatest value that can be, in the unit."""
        return (0.0, 100.0) if self.unit == "%" else (-math.inf, math.inf)

    @property
    def scores(self) -> bool:
        """Whether it says how well networks predict, not what they cost."""
        return self.unit in ("%", "points") or self.key in _SCORES_WITHOUT_PER_CENT


_acc = partial(Metric, unit="%", digits=2, better="higher")
_nll = partial(Metric, unit="nats", digits=4, better="lower")
_ece = partial(Metric, unit="%", digits=2, better="lower")
_brier = partial(Metric, digits=4, better="lower")
_barrier = partial(Metric, unit="nats", digits=3, better="lower")
_drop = partial(Metric, unit="points", digits=2, better="lower")
_seconds = partial(Metric, unit="s", digits=1, better="lower")
_bytes = partial(Metric, unit="MB", better="lower", per=1e6)

# The networks that are scored: their names in keys, and in tables. What a method delivers is one
# network or several.
_NETWORKS = {
    "method": ("delivered", None),
    "method_bn": ("delivered, BN re-est.", "one"),
    "member": ("members", "one"),
    "member_bn": ("members, BN re-est.", "one"),
    "best": ("best member", "one"),
    "ensemble": ("ensemble", "N"),
    "ensemble_bn": ("ensemble, BN re-est.", "N"),
    "ensemble_logit": ("ensemble of logits", "N"),
    "average": ("averaged", "one"),
    "average_bn": ("averaged, BN re-est.", "one"),
    "greedy": ("greedy soup", "one"),
    "greedy_bn": ("greedy soup, BN re-est.", "one"),
}
_SCORES = {
    "acc": ("{}", _acc),
    "nll": ("{}, NLL", _nll),
    "nll_ts": ("{}, calibrated NLL", _nll),
    "ece": ("{}, ECE", _ece),
    "brier": ("{}, Brier score", _brier),
}
# The networks that are scored on a further pool of test images, by accuracy and NLL.
_OF_REST = ("member", "best", "ensemble", "average", "average_bn", "method")


def heading_of(network: str) -> str:
    """Return the name of a network (``member``, ``average_bn``, ...) in tables and figures."""
    return _NETWORKS[network][0]


def _score(
    network: str, score: str, *, rest: bool = False, short: str = "", legend: str = ""
) -> Metric:
    """The row of one network's score, on the official or on further (``rest``) test images."""
    name, networks = _NETWORKS[network]
    heading, kind = _SCORES[score]
    mean = "_mean" if network.startswith("member") else ""
    return kind(
        f"{'rest_' * rest}{network}_{score}{mean}",
        heading.format(name) + ", further test images" * rest,
        networks,
        short=short,
        legend=legend,
    )


# fmt: off
SUMMARY = (  # the columns of every summary.csv, in its order
    _score("member", "acc", short="members", legend="members' mean"),
    _acc("member_acc_min", "members, least", "one"),
    _acc("member_acc_max", "members, greatest", "one"),
    *(_score("member", score) for score in ("nll", "ece", "brier")),
    _score("ensemble", "acc", short="ensemble"),
    *(_score("ensemble", score) for score in ("nll", "ece", "brier")),
    *(_score("ensemble_logit", score) for score in ("acc", "nll")),
    _score("average", "acc", short="averaged"),
    *(_score("average", score) for score in ("nll", "ece", "brier")),
    _score("average_bn", "acc", short="BN re-est.", legend="averaged, BN re-estimated"),
    *(_score("average_bn", score) for score in ("nll", "ece", "brier")),
    _score("member_bn", "acc"),
    _acc("member_bn_acc_min", "members, BN re-est., least", "one"),
    _acc("member_bn_acc_max", "members, BN re-est., greatest", "one"),
    *(_score("ensemble_bn", score) for score in ("acc", "nll")),
    _score("greedy", "acc", short="greedy soup"),
    *(_score("greedy", score) for score in ("nll", "ece")),
    Metric("greedy_size", "members in the greedy soup"),
    Metric("greedy_members", "the greedy soup's members", unit="text"),
    _score("greedy_bn", "acc"),
    Metric("method_predictor", "delivered model", unit="text"),
    _score("method", "acc", short="delivered"),
    _score("method_bn", "acc"),
    _acc("method_val_acc", "delivered, validation"),
    Metric("method_networks", "networks delivered"),
    _seconds("merge_seconds", "merge s"),
    Metric("disagreement", "disagreement", "N", "%", 2),
    Metric("sent_values_per_step", "values sent a step", better="lower"),
    Metric("sent_values_total", "values sent", better="lower"),
    _bytes("sent_bytes_total", "MB sent", short="MB sent"),
    _bytes("wire_bytes_total", "MB on the wire"),
    _barrier("barrier_loss_max", "loss barrier, max", short="barrier"),
    _barrier("barrier_loss_mean", "loss barrier, mean"),
    _drop("barrier_acc_max", "accuracy barrier, max"),
    _drop("barrier_acc_mean", "accuracy barrier, mean"),
    _barrier("barrier_bn_loss_max", "loss barrier, max, BN re-est."),
    _barrier("barrier_bn_loss_mean", "loss barrier, mean, BN re-est."),
    _drop("barrier_bn_acc_max", "accuracy barrier, max, BN re-est."),
    _barrier("barrier_nway_loss", "N-way loss barrier"),
    _barrier("barrier_bn_nway_loss", "N-way loss barrier, BN re-est."),
    Metric("consensus_distance", "distance to consensus", unit="L2", digits=3),
    Metric("consensus_relative", "distance to consensus, relative", digits=3,
           legend="relative distance to consensus"),
    Metric("parameters", "parameters"),
    Metric("steps", "steps"),
    Metric("member_steps_share", "share of the members' steps"),
    _seconds("train_seconds", "train s", short="train s"),
    _seconds("eval_seconds", "evaluation s"),
)
_IN_SUMMARY = {metric.key for metric in SUMMARY}
_SHORT = {
    ("method", "nll"): "NLL",
    ("method", "nll_ts"): "cal. NLL",
    ("best", "acc"): "best member",
}
# What a record can hold besides; a column, after those above and by its name, where one does.
FURTHER = tuple(sorted((
    *(_score(network, score, short=_SHORT.get((network, score), ""))
      for network in _NETWORKS for score in _SCORES
      if _score(network, score).key not in _IN_SUMMARY),
    *(_score(network, score, rest=True) for network in _OF_REST for score in ("acc", "nll")),
    Metric("rest_images", "further test images"),
    _acc("average_val_acc", "averaged, validation", "one"),
    _drop("barrier_bn_acc_mean", "accuracy barrier, mean, BN re-est."),
    Metric("best_member", "the best member's index"),
    Metric("consensus_relative_live", "distance to consensus, relative, live parameters",
           digits=3),
    Metric("dead_parameters", "parameters without a gradient"),
    Metric("ensemble_size_nll", "NLL of ensembles of 1 to N members", unit="text"),
    Metric("ensemble_size_nll_ts", "calibrated NLL of ensembles of 1 to N members", unit="text"),
    Metric("exchange_rounds", "exchanges", better="lower", short="exchanges"),
    Metric("exchanges", "exchanges by kind", unit="text"),
    _acc("member_val_acc_mean", "members, validation", "one"),
    _nll("member_val_nll_mean", "members, validation, NLL", "one"),
    Metric("own_augmentation_share", "share of steps under own augmentation", digits=3),
    _acc("predictor_NAME_acc", "the method's model NAME"),
    Metric("ranks", "processes"),
    Metric("sent_bytes_live_by", "live parameters counted by", unit="text"),
    _bytes("sent_bytes_live_total", "MB sent, live parameters"),
    Metric("train_images", "training images"),
    Metric("wire_bytes_per_step", "bytes on the wire a step", unit="bytes", better="lower"),
), key=lambda metric: metric.key))
OF_CORRUPTIONS = (  # what it holds where corrupted test images were asked for
    _acc("corrupted_average_acc", "averaged, corrupted images", "one"),
    _acc("corrupted_average_bn_acc", "averaged, BN re-est., corrupted images", "one"),
    _nll("corrupted_average_bn_nll", "averaged, BN re-est., NLL, corrupted images", "one"),
    _nll("corrupted_average_nll", "averaged, NLL, corrupted images", "one"),
    _acc("corrupted_ensemble_acc", "ensemble, corrupted images", "N"),
    _nll("corrupted_ensemble_nll", "ensemble, NLL, corrupted images", "N"),
    _acc("corrupted_method_acc", "delivered, corrupted images"),
    _nll("corrupted_method_nll", "delivered, NLL, corrupted images"),
    _acc("corrupted_member_acc", "members, corrupted images", "one"),
    _nll("corrupted_member_nll", "members, NLL, corrupted images", "one"),
)
OF_MERGES = (  # what the record of a merge of trained networks holds besides
    Metric("weight_cosine", "cosine between members' weights", digits=3),
)
OF_STUDENTS = (  # of a merge rule that trains a further network
    Metric("student_steps", "steps of the student"),
    _seconds("student_seconds", "student s"),
)
OF_CONTROLS = (  # of a method that changes the settings of its training
    Metric("changed_settings", "settings of its own", unit="text"),
)
DERIVED = (  # what a report works out of the others
    Metric("average_less_ensemble", "averaged − ensemble", None, "points", 2, "higher"),
    Metric("less_baseline", "delivered − baseline", None, "points", 2, "higher", short="− base"),
    Metric("less_ensemble", "delivered − own ensemble", None, "points", 2, "higher"),
    Metric("sent_vectors", "vectors sent", better="lower"),
    Metric("deep_ensemble_equivalent", "DEE", None, "networks", 1, "higher", short="DEE"),
    Metric("sent_vs_papa", "sent vs PAPA", unit="×", better="lower"),
)
# fmt: on

ALL = (*SUMMARY, *FURTHER, *OF_CORRUPTIONS, *OF_MERGES, *OF_STUDENTS, *OF_CONTROLS, *DERIVED)
_SCORES_WITHOUT_PER_CENT = {
    metric.key for metric in ALL if "_nll" in metric.key or "_brier" in metric.key
} | {"deep_ensemble_equivalent"}
METRICS = {metric.key: metric for metric in ALL}

# Compared between methods, in front of every table: scores of what a method delivers.
LEADING = ("method_acc", "method_nll", "method_nll_ts")
# The columns of a report's main table, and the rows of a comparison of two reports, in order.
MAIN_TABLE = (
    *LEADING,
    *("deep_ensemble_equivalent", "less_baseline"),
    *("member_acc_mean", "best_acc", "ensemble_acc", "average_acc", "greedy_acc"),
    *("method_bn_acc", "member_bn_acc_mean", "ensemble_bn_acc", "average_bn_acc"),
    *("rest_method_acc", "rest_method_nll"),
    *("corrupted_method_acc", "corrupted_member_acc", "corrupted_ensemble_acc"),
    *("corrupted_average_acc", "corrupted_average_bn_acc"),
    *("average_less_ensemble", "barrier_loss_max", "sent_values_per_step"),
    *("exchange_rounds", "sent_bytes_total", "sent_bytes_live_total", "wire_bytes_total"),
    *("sent_vs_papa", "dead_parameters", "consensus_relative_live"),
    *("merge_seconds", "train_seconds"),
)
# The columns of the compact table of all methods; vectors are of the network's size.
METHODS_TABLE = (
    *LEADING,
    *("deep_ensemble_equivalent", "method_bn_acc", "less_ensemble", "less_baseline"),
    *("sent_vectors", "exchange_rounds", "member_steps_share", "merge_seconds", "barrier_loss_max"),
)
# The columns of the wide table: every score of every network.
WIDE_TABLE = (
    *(_score(network, score).key for network in _NETWORKS for score in _SCORES),
    *(_score(network, score, rest=True).key for network in _OF_REST for score in ("acc", "nll")),
)
COMPARED = (
    *LEADING,
    *("member_acc_mean", "best_acc", "ensemble_acc", "average_acc", "average_bn_acc"),
    *("greedy_acc", "ensemble_nll", "average_nll", "barrier_loss_max", "exchange_rounds"),
    *("sent_bytes_total", "train_seconds"),
)
