"""Settings as keyword arguments."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from wash_bench.config.renamed import from_file
from wash_bench.errors import UsageError, nearest
from wash_bench.settings.table import SETTINGS


def as_options(given: Mapping[str, Any], **defaults: Any) -> dict[str, Any]:
    """Keyword arguments as the resolver takes options.

    Args:
        given: by key of the settings; None for what is not given.
        **defaults: what holds where nothing is given.

    Returns:
        The options, paths as text.

    Raises:
        UsageError: one is no setting.
    """
    given = from_file(given, "the call")
    for key in given:
        if key not in SETTINGS:
            raise UsageError(f"{key}: no such setting; {nearest(key, SETTINGS)}")
    said = {key: value for key, value in given.items() if value is not None}
    return {
        key: str(value) if isinstance(value, Path) else value
        for key, value in (defaults | said).items()
    }
