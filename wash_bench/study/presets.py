"""Preset files: reading them, and the names of those in the package. Standard library only."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wash_bench.config.renamed import from_file
from wash_bench.errors import UsageError, nearest
from wash_bench.files import read_toml

FOLDER = Path(__file__).resolve().parent.parent / "presets"
DEFAULT_PRESET = "digits"
NO_PRESET = "none"
"""What stands for the name where the settings begin with the built-in defaults."""


@dataclass(frozen=True)
class Preset:
    """A preset as it stands in its file; the keys of its values have underscores."""

    name: str
    path: Path
    description: str
    values: dict[str, Any]


def preset_names() -> list[str]:
    """The presets in the package, sorted."""
    return sorted(path.stem for path in FOLDER.glob("*.toml"))


def find_preset(name: str) -> Preset:
    """A preset of the package; a UsageError if there is none of that name."""
    names = preset_names()
    if name not in names:
        hint = nearest(name, names)
        if name.endswith(".toml"):
            hint = f"for a file of your own write --preset-file {name}"
        raise UsageError(f"unknown preset {name!r}: {hint}")
    return read_preset(FOLDER / f"{name}.toml")


def read_preset(path: Path) -> Preset:
    """Read a preset file (keys with hyphens or underscores); a UsageError if it is none."""
    try:
        data = read_toml(path)
    except FileNotFoundError:
        raise UsageError(f"no preset file {path}: check the path") from None
    except OSError as error:
        raise UsageError(f"cannot read preset file {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UsageError(f"preset file {path} is not UTF-8 text") from None
    except ValueError as error:
        raise UsageError(f"preset file {path} is not valid TOML: {error}") from None
    values: dict[str, Any] = {}
    for key, value in data.items():
        plain = key.replace("-", "_")
        if plain in values:
            raise UsageError(f"{path.name} gives {plain.replace('_', '-')!r} twice")
        values[plain] = value
    values = from_file(values, path.name)
    description = values.pop("description", "")
    if not isinstance(description, str):
        raise UsageError(f"description in {path.name} must be a text")
    return Preset(path.stem, path, description, values)
