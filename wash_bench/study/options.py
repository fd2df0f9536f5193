"""All settings in one table, read off the fields of the configuration."""

from wash_bench.config import EvaluationConfig, RunConfig, TrainingConfig
from wash_bench.config.field import Option, settings_of
from wash_bench.study.local import LocalConfig

LOCAL = "local"
"""The section of the settings that are no part of a run's configuration."""

OPTIONS: dict[str, Option] = {
    item.key: item
    for item in (
        *settings_of(RunConfig),
        *settings_of(TrainingConfig, "training"),
        *settings_of(EvaluationConfig, "evaluation"),
        *settings_of(LocalConfig, LOCAL),
    )
}
"""The settings by key of a preset file."""
