"""Naive ensemble: N networks trained apart, predictions averaged (Lakshminarayanan et al. 2017).

There is no coupling and nothing is sent. The members differ in initialization (unless it is
shared), data order and augmentation. The delivered model averages the members' probabilities and
costs N forward passes; the uniform average of the weights stands beside it as the naive merge
that the coupled methods set out to repair.

Deviation from PAPA's protocol: its published code averages logits (utils/utils.py:169-200), the
suite's predictors average probabilities; the evaluation reports both.
"""

from wash_bench.core.wrapper import Independent


class NaiveEnsemble(Independent):
    """Independent members; the ensemble of their predictions."""

    name = "naive-ensemble"
    rule = "no coupling; predictions averaged at test time"
    paper = "Lakshminarayanan et al. 2017, arXiv 1612.01474"
    when = "the mark to reach: N networks apart, at N forward passes an image"
    needs = ""
