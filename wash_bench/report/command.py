"""The commands that make an experiment again: a preset file with every setting, and its run.

Of networks from elsewhere it is their merge, of one line.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from wash_bench.config import CHECKPOINT_PREFIX
from wash_bench.config.field import Option
from wash_bench.plugins.names import WRAP, parts
from wash_bench.study.merge_options import OF_MERGE
from wash_bench.study.options import OPTIONS

if TYPE_CHECKING:
    import pandas as pd

    from wash_bench.report.read.frames import Records

_BARE = re.compile(r"[A-Za-z0-9_-]+")


@dataclass(frozen=True)
class Command:
    """One command line, and of ``wash-bench run`` the name of a preset file and its text."""

    line: str
    file: str = ""
    toml: str = ""

    @property
    def shell(self) -> str:
        """All as one text for a shell."""
        if not self.file:
            return f"{self.line}\n"
        return f"cat > {self.file} <<'PRESET'\n{self.toml}PRESET\n{self.line}\n"


def commands(config: dict[str, Any], cells: pd.DataFrame) -> list[Command]:
    """The runs that make an experiment's cells again: several if a method had two settings."""
    settings: dict[str, dict[str, list[int]]] = {}  # method -> options -> seeds
    for method, options, seed in zip(cells["method"], cells["options"], cells["seed"], strict=True):
        settings.setdefault(method, {}).setdefault(options, []).append(int(seed))
    rounds: list[dict[str, tuple[str, list[int]]]] = []
    for method, found in settings.items():
        for place, (options, seeds) in enumerate(found.items()):
            if place == len(rounds):
                rounds.append({})
            rounds[place][method] = (options, seeds)
    stem = re.sub(r"[^A-Za-z0-9_.-]+", "_", str(cells["experiment_id"].iloc[0]))
    result = []
    for place, methods in enumerate(rounds):
        out, file = f"runs/{stem}", f"{stem}{f'-{place + 1}' if len(rounds) > 1 else ''}.toml"
        if config["training"].get("members"):
            options = {method: own for method, (own, _) in methods.items()}
            result.append(Command(merge_line(config, options, out)))
        else:
            line = f"wash-bench run --preset-file {file} --out {out}"
            result.append(Command(line, file, preset_text(config, methods)))
    return result


def script(records: Records) -> str:
    """The text of commands.sh: what makes the cells of all experiments again, for a shell."""
    head = "# Makes the cells of this report again, each run in a folder of its own."
    parts = [f"#!/bin/sh\n{head}\nset -e\n"]
    for experiment, cells in records.experiments():
        parts += [command.shell for command in commands(records.configs[experiment], cells)]
    return "\n".join(parts)


def preset_text(config: dict[str, Any], methods: dict[str, tuple[str, list[int]]]) -> str:
    """A preset file of a cell's configuration, and of methods' options (JSON) and seeds."""
    seeds = sorted({seed for _, own in methods.values() for seed in own})
    settings: dict[str, Any] = {"methods": list(methods), "seeds": seeds}
    for item in OPTIONS.values():
        if item.of("identity") in ("always", "later"):  # what the experiment depends on
            value = (config[item.section] if item.section else config).get(item.name)
            if value not in (None, {}, [], ()):
                settings[item.flag[2:].replace("-", "_")] = item.spelled(value)
    lines = [f"{key} = {_value(value)}" for key, value in settings.items()]
    # A name's options hold for NAME+WRAPPER too, unless that has its own: each is written out.
    for method in sorted(methods, key=lambda name: len(parts(name))):
        if options := json.loads(methods[method][0]):
            lines += ["", f"[set.{_key(method)}]"]
            lines += [f"{_key(key)} = {_value(value)}" for key, value in options.items()]
    foreign = [name for name in methods if not _installed(name)]
    if foreign:
        names = ", ".join(map(json.dumps, foreign))  # a name of several lines would end the comment
        lines.insert(0, f"# Methods of a file of its own ({names}): name it as")
        lines.insert(1, "# path.py:Class in place of the method.")
    return "\n".join(lines) + "\n"


def _installed(method: str) -> bool:
    from wash_bench.plugins.registry import method_names

    return set(method.split(WRAP)) <= set(method_names())


def _key(name: str) -> str:
    return name if _BARE.fullmatch(name) else json.dumps(name, ensure_ascii=False)


def _value(value: Any) -> str:
    """TOML's form of a value; strings, numbers and lists are written there as in JSON."""
    if isinstance(value, dict):
        pairs = (f"{_key(key)} = {_value(v)}" for key, v in value.items() if v is not None)
        return f"{{ {', '.join(pairs)} }}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_value, value))}]"
    text = json.dumps(value, ensure_ascii=False)
    return text.replace("\x7f", "\\u007f")


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
        item = OPTIONS[key]
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


def _is_default(item: Option, value: Any) -> bool:
    default = item.field.default
    return value is None or value == (list(default) if isinstance(default, tuple) else default)


def _words(item: Option, value: Any) -> Iterator[str]:
    if item.switch:
        yield item.flag if value else f"--no-{item.flag[2:]}"
    elif isinstance(value, Mapping):
        for name, own in value.items():
            yield from (item.flag, f"{name}={_text(own)}")
    else:
        yield from (item.flag, _text(item.spelled(value)))


def _text(value: Any) -> str:
    """A value as options take it."""
    if isinstance(value, list | tuple):
        return ",".join(map(_text, value))
    return value if isinstance(value, str) else json.dumps(value)
