"""The columns of a report's CSV files, in order; the metrics among them are in ``metrics.py``."""

from wash_bench.config import TrainingConfig
from wash_bench.config.field import settings_of

# What a cell is: the first columns of the summary.
IDENTITY = ("preset", "dataset", "model", "method", "seed", "population", "status")

# The settings a reader compares; the rest of the configuration stays in the record.
SETTING_COLUMNS = (
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
LATER_SETTING_COLUMNS = {
    setting.name: "" if setting.field.default == {} else setting.field.default
    for setting in settings_of(TrainingConfig)
    if setting.of("identity") == "later"
}

# Where it comes from. ``variant`` is the method, with the options that set it apart from other
# cells of the same method in the same experiment; ``options`` is JSON.
PROVENANCE = ("variant", "options", "reason", "experiment_id", "training_id", "cell_id")

EVENT_FIELDS = ("step", "epoch", "member", "metric", "value")
BARRIER_FIELDS = ("kind", "a", "b", "alpha", "bn", "split", "images", "loss", "accuracy")
SIMPLEX_FIELDS = (
    *("a", "b", "c", "weight_a", "weight_b", "weight_c"),
    *("bn", "split", "images", "loss", "accuracy"),
)
CORRUPTION_FIELDS = ("corruption", "severity", "network", "images", "loss", "accuracy")
# Leading columns of the events and the barrier: which training, and whose.
TRAINING = ("training_id", "methods", "dataset", "model", "seed", "population")
