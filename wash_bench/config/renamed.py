"""Options that have another name, or other values, than the fields that records are hashed by.

The names before stay accepted for one release, with a hint; the fields keep theirs, so that ids and
records stay as they are. Standard library only: the command line reads this.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from wash_bench.errors import UsageError, note

NAMES = {
    "procs": "nproc",
    "silence": "heartbeat_timeout",
    "accumulate": "grad_accum_steps",
    "vary": "member_grid",
    "coupling_budget": "rescale_coupling",
    "merge_every": "eval_average_every",
    "which": "network",
}
"""The option of a field whose own name is the option's old one."""
OF_TIMM = {
    "--opt": "--optimizer",
    "--min-lr": "--lr-min",
    "--warmup-epochs": "--warmup",
    "--img-size": "--image-size",
    "--model-kwargs": "--model-arg",
    "--output": "--out",
    "--config": "--preset-file",
    "--seed": "--seeds",
    "--torchcompile": "--compile",
    "--pretrained": "--init=pretrained",
}
"""Options of timm's training script that are taken for ours of the same meaning."""
VALUES: Mapping[str, Mapping[str, Any]] = {
    "augment": {"homogeneous": "same", "heterogeneous": "per-member"},
    "coupling_budget": {"given": False, "paper": True},
    "which": {"own": "delivered", "soup": "greedy-soup"},
}
"""By field: what is recorded, and what the option takes for it."""
_FIELDS = {name: field for field, name in NAMES.items()}


def flag_of(field: str) -> str:
    """Return the option of a field's key, as ``--grad-accum-steps``."""
    return "--" + NAMES.get(field, field).replace("_", "-")


def recorded(field: str, value: Any) -> Any:
    """Return what a field holds for an option's value; old values stay, comma lists go by item."""
    back = {word: own for own, word in VALUES.get(field, {}).items()}
    if isinstance(value, str) and "," in value:
        return ",".join(str(back.get(part.strip(), part)) for part in value.split(","))
    return back.get(value, value) if isinstance(value, str | bool) else value


def from_file(values: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Return the values of a TOML file by field; a UsageError where one is given by both names."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        field = _FIELDS.get(key, key)
        if field in found:
            raise UsageError(f"{name} gives {flag_of(field)[2:]!r} twice")
        if key in NAMES:
            _hint(f"{name}: {key.replace('_', '-')}", flag_of(key)[2:])
        found[field] = recorded(field, value)
    return found


def from_arguments(arguments: Sequence[str], known: Collection[str]) -> list[str]:
    """Return a command line with today's names and values of options; ``known`` are its flags."""
    return list(_renamed(iter(arguments), known))


def _renamed(arguments: Iterator[str], known: Collection[str]) -> Iterator[str]:
    for argument in arguments:
        if argument == "--":
            yield from (argument, *arguments)
            return
        flag, equals, value = argument.partition("=")
        if (ours := OF_TIMM.get(flag, "")).partition("=")[0] in known and flag not in known:
            yield ours + equals + value
            continue
        field = flag.removeprefix("--").replace("-", "_")
        if flag == "--method":  # beside --methods it adds to the preset's methods
            _hint(argument, "--methods")
            yield argument if flag in known else f"--methods{argument[len(flag) :]}"
            continue
        if not flag.startswith("--") or field not in {**NAMES, **VALUES}:
            yield argument
            continue
        new, old = flag_of(field), argument
        if words := VALUES.get(field):
            value = value if equals else next(arguments, "")
            old = f"{flag} {value}"
            value = ",".join(str(words.get(part, part)) for part in value.split(","))
            new = {"True": new, "False": f"--no-{new[2:]}"}.get(value, f"{new}={value}")
        elif equals:
            new += f"={value}"
        if old.replace(" ", "=", 1) != new:
            _hint(old, new)
        yield new


def _hint(old: str, new: str) -> None:
    if "RANK" not in os.environ:  # the launcher has said it
        note(f"{old} is now {new}; this release still takes the old spelling")
