"""Settings are fields that say all about themselves: help, unit, place in the help, identity.

Whatever shows or takes settings (the command line, presets, records, the docs' table) reads it
off the fields; a further setting is one more field.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field
from pydantic.fields import FieldInfo
from pydantic_core import core_schema

from wash_bench.config.renamed import VALUES, flag_of

WHAT, METHODS, DATA, NETWORK = "What to run", "Methods and members", "Data", "Network"
TRAINING, MEASURE = "Training", "Validation and evaluation"
MACHINE, RECORD = "Machine", "Records and output"
DETAILS, FINE_TUNING, CORRUPTED = "Evaluation details", "Fine-tuning", "Corruptions"
SIMPLEX, DISTRIBUTED = "Simplex map", "Several processes or machines"
PANELS = (WHAT, METHODS, DATA, NETWORK, TRAINING, MEASURE, MACHINE, RECORD, FINE_TUNING, DETAILS,
          CORRUPTED, SIMPLEX, DISTRIBUTED)  # fmt: skip
"""The headings of the help: ``WHAT`` is its first screen."""

Identity = Literal["always", "later", "cell", "never"]
"""Whether a setting is part of a cell's identity.

``later``: where it differs from its default; for settings that came after cells were recorded, so
that these keep their identities. ``cell``: what the cell has of it, one method with its options
or one seed.
"""


def setting(
    default: Any,
    panel: str,
    metavar: str = "",
    *,
    unit: str = "",
    help: str | None = None,
    shown: str = "",
    option: str = "",
    repeat: bool = False,
    identity: Identity = "always",
    needs: str = "",
    **limits: Any,
) -> Any:
    """A field of a configuration; the docstring under it is its help.

    Args:
        default: the built-in default.
        panel: the heading under which help and docs show it.
        metavar: placeholder of the value, by default the unit or the choices.
        unit: the unit of a number, a plural.
        help: what it does, where a docstring cannot say it.
        shown: the default in words, where its value does not say it.
        option: name of the option and key of presets, by default the field's.
        repeat: whether the option is given once for each item, not once for all with commas.
        identity: whether it is part of a cell's identity.
        needs: another field of the model; where that has its default, this one says nothing and
            is no part of an identity.
        **limits: pydantic's constraints, as ``ge=0, le=1``.

    Returns:
        What pydantic takes for the field; truth values are taken as such alone.
    """
    about: dict[str, Any] = {"panel": panel, "unit": unit, "metavar": metavar, "shown": shown}
    about |= {"option": option, "repeat": repeat, "identity": identity, "needs": needs}
    if isinstance(default, bool):
        limits["strict"] = True
    return Field(default, description=help, json_schema_extra=about, **limits)


@dataclass(frozen=True)
class Choice:
    """For ``Annotated[str, Choice(table)]``: a text that is among the keys of a table."""

    names: Iterable[str]

    def __get_pydantic_core_schema__(self, *_: Any) -> core_schema.CoreSchema:
        return core_schema.literal_schema(list(self.names))


@dataclass(frozen=True)
class Option:
    """What a field says.

    Attributes:
        name: the field's name.
        section: the part of the run's configuration that holds it, empty for none.
        field: the field itself.
    """

    name: str
    section: str
    field: FieldInfo

    def of(self, fact: str) -> Any:
        """``panel``, ``unit`` or another argument of ``setting``."""
        extra = self.field.json_schema_extra
        return extra.get(fact, "") if isinstance(extra, dict) else ""

    @property
    def key(self) -> str:
        """Its key in preset files; with hyphens, its option."""
        return self.of("option") or self.name

    @property
    def flag(self) -> str:
        """Its option."""
        return flag_of(self.key)

    @property
    def help(self) -> str:
        """What it does."""
        return " ".join((self.field.description or "").split())

    @property
    def switch(self) -> bool:
        """Whether it is yes or no."""
        return self.field.annotation is bool or True in VALUES.get(self.key, {}).values()

    @property
    def items(self) -> type | None:
        """The type of the items where it is a list, else None."""
        arguments = get_args(self.field.annotation)
        return arguments[0] if arguments[1:] == (...,) else None

    @property
    def is_list(self) -> bool:
        """Whether its value is a list, as 0,1,2."""
        return self.items is not None or self.metavar == "LIST"

    @property
    def choices(self) -> tuple[str, ...]:
        """The values it may take, empty if they are not a few names."""
        return () if self.switch else choices_of(self.field)

    @property
    def metavar(self) -> str:
        """Placeholder of the value."""
        named = f"[{'|'.join(self.choices)}]" if self.choices else self.of("unit").upper()
        return self.of("metavar") or named

    def spelled(self, value: Any) -> Any:
        """Return a recorded value as the option takes it."""
        words = VALUES.get(self.key, {})
        return words.get(value, value) if isinstance(value, str) else value

    @property
    def default(self) -> str:
        """The built-in default in words."""
        value = self.field.default
        if self.of("shown"):
            return self.of("shown")
        value = self.spelled(value)
        if isinstance(value, bool):
            return "yes" if value else "no"
        if isinstance(value, float):
            return f"{value:g}"
        if value is None or value in ((), {}):
            return "none"
        return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


def settings_of(model: type[BaseModel], section: str = "") -> list[Option]:
    """The settings among the fields of a model, in their order."""
    found = [Option(name, section, field) for name, field in model.model_fields.items()]
    return [item for item in found if item.of("panel")]


def choices_of(field: FieldInfo) -> tuple[str, ...]:
    """The names that a field may take, empty if it takes others."""
    if get_origin(field.annotation) is Literal:
        names = get_args(field.annotation)
        words = next((words for words in VALUES.values() if tuple(words) == names), {})
        return tuple(str(words.get(name, name)).lower() for name in names)
    return next((tuple(item.names) for item in field.metadata if isinstance(item, Choice)), ())


class ConfigModel(BaseModel):
    """Base of the configuration models: frozen, and no key it does not know."""

    # "model_args" is a setting, no method of pydantic's.
    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True, protected_namespaces=()
    )

    def identity(self) -> dict[str, Any]:
        """The settings that are part of a cell's identity, as JSON data."""
        kept = {item.name for item in settings_of(type(self)) if self._counts(item)}
        return self.model_dump(mode="json", include=kept)

    def key(self, **parts: Any) -> str:
        """Return a text that is the same for equal settings; ``parts`` are those of model_dump."""
        return json.dumps(self.model_dump(mode="json", **parts))  # paths need not be UTF-8

    def _counts(self, item: Option) -> bool:
        """Whether a setting is part of a cell's identity."""
        names = [item.of("needs"), item.name if item.of("identity") == "later" else ""]
        part = item.of("identity") in ("always", "later")
        return part and all(self._differs(name) for name in names if name)

    def _differs(self, name: str) -> bool:
        return getattr(self, name) != type(self).model_fields[name].default
