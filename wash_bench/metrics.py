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
    def ranked(self) -> bool:
        """Whether tables mark the best value: accuracies of one network, which compare."""
        return (self.unit, self.better, self.networks) == ("%", "higher", "one")


_acc = partial(Metric, unit="%", digits=2, better="higher")
_nll = partial(Metric, unit="nats", digits=4, better="lower")
_ece = partial(Metric, unit="%", digits=2, better="lower")
_brier = partial(Metric, digits=4, better="lower")
_barrier = partial(Metric, unit="nats", digits=3, better="lower")
_drop = partial(Metric, unit="points", digits=2, better="lower")
_seconds = partial(Metric, unit="s", digits=1, better="lower")
_bytes = partial(Metric, unit="MB", better="lower", per=1e6)

# fmt: off
SUMMARY = (  # the columns of every summary.csv, in its order
    _acc("member_acc_mean", "members", "one", short="members", legend="members' mean"),
    _acc("member_acc_min", "members, least", "one"),
    _acc("member_acc_max", "members, greatest", "one"),
    _nll("member_nll_mean", "members' loss", "one"),
    _ece("member_ece_mean", "members' ECE", "one"),
    _brier("member_brier_mean", "members' Brier score", "one"),
    _acc("ensemble_acc", "ensemble", "N", short="ensemble"),
    _nll("ensemble_nll", "ensemble loss", "N"),
    _ece("ensemble_ece", "ensemble ECE", "N"),
    _brier("ensemble_brier", "ensemble Brier score", "N"),
    _acc("ensemble_logit_acc", "ensemble of logits", "N"),
    _nll("ensemble_logit_nll", "ensemble of logits, loss", "N"),
    _acc("average_acc", "averaged", "one", short="averaged"),
    _nll("average_nll", "averaged loss", "one"),
    _ece("average_ece", "averaged ECE", "one"),
    _brier("average_brier", "averaged Brier score", "one"),
    _acc("average_bn_acc", "averaged, BN re-est.", "one", short="BN re-est.",
         legend="averaged, BN re-estimated"),
    _nll("average_bn_nll", "averaged loss, BN re-est.", "one"),
    _ece("average_bn_ece", "averaged ECE, BN re-est.", "one"),
    _brier("average_bn_brier", "averaged Brier score, BN re-est.", "one"),
    _acc("member_bn_acc_mean", "members, BN re-est.", "one"),
    _acc("member_bn_acc_min", "members, BN re-est., least", "one"),
    _acc("member_bn_acc_max", "members, BN re-est., greatest", "one"),
    _acc("ensemble_bn_acc", "ensemble, BN re-est.", "N"),
    _nll("ensemble_bn_nll", "ensemble loss, BN re-est.", "N"),
    _acc("greedy_acc", "greedy soup", "one", short="greedy soup"),
    _nll("greedy_nll", "greedy soup's loss", "one"),
    _ece("greedy_ece", "greedy soup's ECE", "one"),
    Metric("greedy_size", "members in the greedy soup"),
    Metric("greedy_members", "the greedy soup's members", unit="text"),
    _acc("greedy_bn_acc", "greedy soup, BN re-est.", "one"),
    Metric("method_predictor", "the method's own model", unit="text"),
    _acc("method_acc", "the method's own"),
    _acc("method_bn_acc", "own network, BN re-est.", "one"),
    _acc("method_val_acc", "own network, validation", "one"),
    Metric("method_networks", "networks of the method's own"),
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
    Metric("member_steps_share", "share of the members' steps", digits=3),
    _seconds("train_seconds", "train s", short="train s"),
    _seconds("eval_seconds", "evaluation s"),
)
# What a record can hold besides; a column, after those above and by its name, where one does.
FURTHER = (
    _acc("average_val_acc", "averaged, validation", "one"),
    _drop("barrier_bn_acc_mean", "accuracy barrier, mean, BN re-est."),
    _brier("ensemble_bn_brier", "ensemble Brier score, BN re-est.", "N"),
    _ece("ensemble_bn_ece", "ensemble ECE, BN re-est.", "N"),
    _brier("ensemble_logit_brier", "ensemble of logits, Brier score", "N"),
    _ece("ensemble_logit_ece", "ensemble of logits, ECE", "N"),
    Metric("exchanges", "exchanges by kind", unit="text"),
    _brier("greedy_bn_brier", "greedy soup's Brier score, BN re-est.", "one"),
    _ece("greedy_bn_ece", "greedy soup's ECE, BN re-est.", "one"),
    _nll("greedy_bn_nll", "greedy soup's loss, BN re-est.", "one"),
    _brier("greedy_brier", "greedy soup's Brier score", "one"),
    _brier("member_bn_brier_mean", "members' Brier score, BN re-est.", "one"),
    _ece("member_bn_ece_mean", "members' ECE, BN re-est.", "one"),
    _nll("member_bn_nll_mean", "members' loss, BN re-est.", "one"),
    _acc("member_val_acc_mean", "members, validation", "one"),
    _brier("method_brier", "Brier score of the method's own"),
    _ece("method_ece", "ECE of the method's own"),
    _nll("method_nll", "loss of the method's own"),
    Metric("own_augmentation_share", "share of steps under own augmentation", digits=3),
    _acc("predictor_NAME_acc", "the method's model NAME"),
    Metric("ranks", "processes"),
    Metric("train_images", "training images"),
    Metric("wire_bytes_per_step", "bytes on the wire a step", unit="bytes", better="lower"),
)
OF_CORRUPTIONS = (  # what it holds where corrupted test images were asked for
    _acc("corrupted_average_acc", "averaged, corrupted images", "one"),
    _acc("corrupted_average_bn_acc", "averaged, BN re-est., corrupted images", "one"),
    _nll("corrupted_average_bn_nll", "averaged loss, BN re-est., corrupted images", "one"),
    _nll("corrupted_average_nll", "averaged loss, corrupted images", "one"),
    _acc("corrupted_ensemble_acc", "ensemble, corrupted images", "N"),
    _nll("corrupted_ensemble_nll", "ensemble loss, corrupted images", "N"),
    _acc("corrupted_method_acc", "the method's own, corrupted images"),
    _nll("corrupted_method_nll", "loss of the method's own, corrupted images"),
    _acc("corrupted_member_acc", "members, corrupted images", "one"),
    _nll("corrupted_member_nll", "members' loss, corrupted images", "one"),
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
    _acc("method_network_acc", "the method's own network", "one"),
    Metric("average_less_ensemble", "averaged − ensemble", None, "points", 2, "higher"),
    Metric("less_baseline", "one network − baseline", None, "points", 2, "higher", short="− base"),
    Metric("sent_vs_papa", "sent vs PAPA", unit="×", better="lower"),
)
# fmt: on

_ALL = (*SUMMARY, *FURTHER, *OF_CORRUPTIONS, *OF_MERGES, *OF_STUDENTS, *OF_CONTROLS, *DERIVED)
METRICS = {metric.key: metric for metric in _ALL}

# The columns of a report's main table, and the rows of a comparison of two reports, in order.
MAIN_TABLE = (
    *("member_acc_mean", "ensemble_acc", "average_acc", "average_bn_acc", "member_bn_acc_mean"),
    *("ensemble_bn_acc", "greedy_acc", "method_network_acc", "method_bn_acc", "merge_seconds"),
    *("corrupted_member_acc", "corrupted_ensemble_acc", "corrupted_average_acc"),
    *("corrupted_average_bn_acc", "corrupted_method_acc"),
    *(
        "average_less_ensemble",
        "less_baseline",
        "barrier_loss_max",
        "sent_values_per_step",
        "sent_bytes_total",
    ),
    *("wire_bytes_total", "sent_vs_papa", "train_seconds"),
)
COMPARED = (
    *("member_acc_mean", "ensemble_acc", "average_acc", "average_bn_acc", "greedy_acc"),
    *("method_acc", "ensemble_nll", "average_nll", "barrier_loss_max", "sent_bytes_total"),
    "train_seconds",
)
