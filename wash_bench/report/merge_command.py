"""The command that measures a merge of networks from elsewhere again."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping
from typing import Any

from wash_bench.config import CHECKPOINT_PREFIX
from wash_bench.config.field import Setting
from wash_bench.settings.of_merge import OF_MERGE
from wash_bench.settings.table import SETTINGS

_NAMED = ("dataset", "model")  # which the networks' files may not say


def merge_line(config: Mapping[str, Any], methods: Mapping[str, str], out: str) -> str:
    """The command line, as a shell takes it.

    Args:
        config: a cell's configuration, its members the networks' files.
        methods: options (JSON) by merge rule.
        out: the run folder.

    Returns:
        One line.
    """
    training = config["training"]
    words = ["wash-bench", "merge", *training["members"]]
    for key in OF_MERGE:
        item = SETTINGS[key]
        value = (config[item.section] if item.section else config).get(item.name)
        if key in _NAMED or not _is_default(item, value):
            words += _words(item, value)
    kind, _, anchor = training["init"].partition(CHECKPOINT_PREFIX)
    words += ["--anchor", anchor] if anchor and not kind else []
    words += ["--methods", ",".join(methods)]
    for method, options in methods.items():
        for name, value in json.loads(options).items():
            words += ["--set", f"{method}.{name}={_text(value)}"]
    return shlex.join([*words, "--out", out])


def _is_default(item: Setting, value: Any) -> bool:
    default = item.field.default
    return value is None or value == (list(default) if isinstance(default, tuple) else default)


def _words(item: Setting, value: Any) -> Iterator[str]:
    if item.switch:
        yield item.flag if value else f"--no-{item.key.replace('_', '-')}"
    elif isinstance(value, Mapping):
        for name, own in value.items():
            yield from (item.flag, f"{name}={_text(own)}")
    else:
        yield from (item.flag, _text(value))


def _text(value: Any) -> str:
    """A value as options take it."""
    if isinstance(value, list | tuple):
        return ",".join(map(_text, value))
    return value if isinstance(value, str) else json.dumps(value)
