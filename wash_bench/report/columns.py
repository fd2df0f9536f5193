"""The names of ``summary.csv``, in order. Everything else in the reports refers to them."""

from __future__ import annotations

from wash_bench.config import TrainingConfig
from wash_bench.config.field import settings_of

# What a cell is: the first columns of the summary.
IDENTITY = ("preset", "dataset", "model", "method", "seed", "population", "status")

# The settings a reader compares; the rest of the configuration stays in the record.
SETTINGS = (
    "init",
    "augment",
    "epochs",
    "batch_size",
    "optimizer",
    "lr",
    "lr_min",
    "schedule",
    "momentum",
    "weight_decay",
    "train_limit",
    "image_size",
    "val_share",
    "stem",
    "device",
    "amp",
)

# Settings of later versions, with what holds where a record does not have them. A report shows
# them where they say something.
LATER_SETTINGS = {
    setting.name: "" if setting.field.default == {} else setting.field.default
    for setting in settings_of(TrainingConfig)
    if setting.of("identity") == "later"
}

# Where it comes from. ``variant`` is the method, with the options that set it apart from other
# cells of the same method in the same experiment; ``options`` is JSON.
PROVENANCE = ("variant", "options", "reason", "experiment_id", "training_id", "cell_id")

# Accuracies in per cent, losses in nats, bytes and values per member.
METRICS = (
    "member_acc_mean",
    "member_acc_min",
    "member_acc_max",
    "member_nll_mean",
    "member_ece_mean",
    "member_brier_mean",
    "ensemble_acc",
    "ensemble_nll",
    "ensemble_ece",
    "ensemble_brier",
    "ensemble_logit_acc",
    "ensemble_logit_nll",
    "average_acc",
    "average_nll",
    "average_ece",
    "average_brier",
    "average_bn_acc",
    "average_bn_nll",
    "average_bn_ece",
    "average_bn_brier",
    "member_bn_acc_mean",
    "member_bn_acc_min",
    "member_bn_acc_max",
    "ensemble_bn_acc",
    "ensemble_bn_nll",
    "greedy_acc",
    "greedy_nll",
    "greedy_ece",
    "greedy_size",
    "greedy_members",
    "greedy_bn_acc",
    "method_predictor",
    "method_acc",
    "method_bn_acc",
    "method_val_acc",
    "method_networks",
    "merge_seconds",
    "disagreement",
    "sent_values_per_step",
    "sent_values_total",
    "sent_bytes_total",
    "wire_bytes_total",
    "barrier_loss_max",
    "barrier_loss_mean",
    "barrier_acc_max",
    "barrier_acc_mean",
    "barrier_bn_loss_max",
    "barrier_bn_loss_mean",
    "barrier_bn_acc_max",
    "barrier_nway_loss",
    "barrier_bn_nway_loss",
    "consensus_distance",
    "consensus_relative",
    "parameters",
    "steps",
    "member_steps_share",
    "train_seconds",
    "eval_seconds",
)
TEXT_METRICS = ("greedy_members", "method_predictor")
SUMMARY = IDENTITY + SETTINGS + METRICS + PROVENANCE

EVENT_FIELDS = ("step", "epoch", "member", "metric", "value")
BARRIER_FIELDS = ("kind", "a", "b", "alpha", "bn", "split", "images", "loss", "accuracy")
SIMPLEX_FIELDS = (
    *("a", "b", "c", "weight_a", "weight_b", "weight_c"),
    *("bn", "split", "images", "loss", "accuracy"),
)
# Leading columns of the events and the barrier: which training, and whose.
TRAINING = ("training_id", "methods", "dataset", "model", "seed", "population")
