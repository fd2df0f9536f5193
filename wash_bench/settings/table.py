"""All settings in one table, read off the fields of the configuration."""

from wash_bench.config import EvaluationConfig, RunConfig, TrainingConfig
from wash_bench.config.field import Setting, settings_of
from wash_bench.settings.local import LocalConfig

LOCAL = "local"
"""The section of the settings that are no part of a run's configuration."""

SETTINGS: dict[str, Setting] = {
    item.key: item
    for item in (
        *settings_of(RunConfig),
        *settings_of(TrainingConfig, "training"),
        *settings_of(EvaluationConfig, "evaluation"),
        *settings_of(LocalConfig, LOCAL),
    )
}
"""The settings by key of a preset file."""
