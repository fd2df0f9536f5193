"""The names of architectures, timm's and ours, without importing timm (which takes seconds).

timm registers an architecture by decorating the function of that name, so its sources tell all
the names. A test holds this list equal to ``timm.list_models()``.
"""

import importlib.util
import re
from functools import cache
from pathlib import Path

from wash_bench.errors import UsageError, WashBenchError, nearest
from wash_bench.models.sources import check_source, is_external

OWN_NETWORKS: dict[str, tuple[int, tuple[int, ...], bool]] = {
    "resnet8": (1, (16, 32, 64), False),
    "resnet20": (3, (16, 32, 64), False),
    "resnet32": (5, (16, 32, 64), False),
    "resnet56": (9, (16, 32, 64), False),
    "resnet10-narrow": (1, (16, 32, 64, 128), True),
}
"""Ours (``models/residual.py``): blocks per stage, channels per stage, shortcuts by projection."""

_REGISTERED = re.compile(r"^@register_model\b[^\n]*\n(?:[@#][^\n]*\n|[ \t]*\n)*def (\w+)", re.M)
_RENAMED_MAP = re.compile(r"^register_model_deprecations\([^{]*\{(.*?)\}\s*\)", re.M | re.S)
_RENAMED = re.compile(r"""['"]([\w.]+)['"]\s*:\s*['"]([\w.]+)['"]""")


@cache
def _sources() -> tuple[str, ...]:
    """The text of every module of timm's model folder."""
    spec = importlib.util.find_spec("timm")  # finds the package, runs none of it
    if spec is None or spec.origin is None:
        raise WashBenchError("timm is not installed; install wash-bench anew (pip install .)")
    folder = Path(spec.origin).parent / "models"
    return tuple(path.read_text(encoding="utf-8") for path in sorted(folder.rglob("*.py")))


@cache
def _names() -> frozenset[str]:
    return frozenset(name for text in _sources() for name in _REGISTERED.findall(text)) | {
        *OWN_NETWORKS
    }


@cache
def _renamed() -> dict[str, str]:
    """Old names that timm still takes, and what they are called now."""
    return {
        old: new
        for text in _sources()
        for block in _RENAMED_MAP.findall(text)
        for old, new in _RENAMED.findall(block)
    }


def architecture_names() -> list[str]:
    """Return all architectures, ours included, numbers within names sorted as numbers."""
    return sorted(_names(), key=_natural)


def _natural(name: str) -> list[tuple[int, int, str]]:
    parts = re.split(r"(\d+)", name)
    return [(0, int(part), "") if part.isdigit() else (1, 0, part) for part in parts]


def check_architecture(name: str) -> str:
    """The name under which timm knows an architecture today; a UsageError if it has none."""
    # A tag of pretrained weights (resnet18.a1_in1k) may follow; networks are trained from scratch,
    # hence the tag decides at most such defaults as the pooling. Tags that timm makes by code, not
    # written in its sources, are left to build_model.
    if is_external(name):
        check_source(name)
        return name
    renamed = _renamed().get(name)
    architecture, dot, tag = (renamed or name).partition(".")
    if architecture not in _names():
        raise UsageError(
            f"unknown model {name!r}: {nearest(architecture, _names())} "
            "(wash-bench models [FILTER] lists them)"
        )
    if not dot:
        return architecture
    known = _tags(architecture)
    if tag and (tag in known or not known):
        return f"{architecture}.{tag}"
    if renamed:  # an old name whose weights are gone is still a name of the architecture
        return architecture
    raise UsageError(unknown_tag(architecture, tag, known))


def unknown_tag(architecture: str, tag: str, known: set[str]) -> str:
    """The error line for a tag that an architecture does not have."""
    if not known:
        return f"model {architecture!r} has no tag {tag!r}; leave the tag out"
    return f"model {architecture!r} has no tag {tag!r}: {nearest(tag, known)}"


def _tags(architecture: str) -> set[str]:
    quoted = re.compile(rf"""['"]{re.escape(architecture)}\.([\w.-]+)\*?['"]\s*:""")
    return {tag for text in _sources() for tag in quoted.findall(text)}
