"""Options made from the settings, for every command that takes some.

The settings are models of pydantic, whose import takes longer than the help of the program may.
Hence a command's options are made when it is called, or its own help or completion is asked for.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

from wash_bench.cli import complete

if TYPE_CHECKING:
    from wash_bench.config.field import Setting

Function = Callable[..., None]

JSON = typer.Option("--json", help="Print JSON (default: a table).")
DEBUG = typer.Option("--debug", help="Show the traceback of an error (default: no).")


@dataclass(frozen=True)
class _Taken:
    """A function, and what it takes besides the options of its own signature.

    Attributes:
        function: what the command does.
        own: the parameters of its signature.
        keys: keys of settings; empty for all of them.
        without: keys of those that it does not take.
        changed: what some options say in place of the setting: help, metavar, default; by key.
        of_preset: whether a preset decides where an option is not given.
    """

    function: Function
    own: tuple[inspect.Parameter, ...]
    keys: tuple[str, ...]
    without: tuple[str, ...]
    changed: Mapping[str, Mapping[str, str]]
    of_preset: bool

    def command(self) -> Any:
        """The command with all its options."""

        def filled(**options: Any) -> None:
            self.function(**options)

        parameters = [*self.own, *self._settings()]
        filled.__signature__ = inspect.Signature(parameters)  # pyright: ignore[reportFunctionMemberAccess]
        filled.__annotations__ = {item.name: item.annotation for item in parameters}
        alone = typer.Typer(add_completion=False)
        alone.command()(filled)
        return typer.main.get_command(alone)

    def _settings(self) -> Iterator[inspect.Parameter]:
        """The options of settings, panel by panel."""
        from wash_bench.config.field import PANELS
        from wash_bench.settings.table import SETTINGS

        wanted = {*self.keys, *self.changed} if self.keys else SETTINGS.keys()
        taken = [SETTINGS[key] for key in SETTINGS if key in wanted and key not in self.without]
        for item in sorted(taken, key=lambda item: PANELS.index(item.of("panel"))):
            yield self._parameter(item, self.changed.get(item.key, {}))

    def _parameter(self, item: Setting, changed: Mapping[str, str]) -> inspect.Parameter:
        # Numbers reach the resolver as text, which is checked there like a preset's.
        kind: Any = bool if item.switch else list[str] if item.of("repeat") else str
        default = changed.get("default", item.default)
        option = typer.Option(
            f"{item.flag}/--no-{item.flag[2:]}" if item.switch else item.flag,
            help=changed.get("help", item.help),
            metavar=changed.get("metavar", item.metavar) or None,
            rich_help_panel=item.of("panel"),
            show_default=f"the preset's, else {default}" if self.of_preset else default,
            autocompletion=complete.of_setting(item),
        )
        return inspect.Parameter(
            item.key,
            inspect.Parameter.KEYWORD_ONLY,
            default=None,
            annotation=Annotated[kind | None, option],
        )


_TAKEN: dict[Function, _Taken] = {}


def takes_settings(
    *keys: str,
    without: tuple[str, ...] = (),
    of_preset: bool = False,
    **changed: Mapping[str, str],
) -> Callable[[Function], Function]:
    """Let the function of a ``SettingsCommand`` take settings, as ``**options`` by key.

    Args:
        *keys: keys of settings; without any, all of them.
        without: keys of those that it does not take.
        of_preset: whether a preset decides where an option is not given.
        **changed: further keys, with what their options say in place of the setting: help,
            metavar, default.

    Returns:
        The decorator. Options that are not given are None.
    """

    def decorate(function: Function) -> Function:
        parameters = inspect.signature(function, eval_str=True).parameters.values()
        own = tuple(item for item in parameters if item.kind is not inspect.Parameter.VAR_KEYWORD)
        _TAKEN[function] = _Taken(function, own, keys, without, changed, of_preset)
        # Until the options are made.
        function.__signature__ = inspect.Signature()  # pyright: ignore[reportFunctionMemberAccess]
        return function

    return decorate


class SettingsCommand(TyperCommand):
    """A command that takes settings; its options are made when they are first looked at."""

    def get_params(self, ctx: Any) -> list[Any]:
        if not self.params:
            full = _TAKEN[inspect.unwrap(self.callback)].command()
            self.params, self.callback = full.params, full.callback
        return super().get_params(ctx)
