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
    from wash_bench.config.field import Option

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
    """

    function: Function
    own: tuple[inspect.Parameter, ...]
    keys: tuple[str, ...]
    without: tuple[str, ...]
    changed: Mapping[str, Mapping[str, str]]

    def command(self) -> Any:
        """The command with all its options."""

        def filled(**options: Any) -> None:
            from wash_bench.config.renamed import recorded

            # No record holds ``which``: its networks have today's names alone.
            options = {key: _joined(key, value) for key, value in options.items()}
            values = {k: v if k == "which" else recorded(k, v) for k, v in options.items()}
            self.function(**values)

        options = sorted([*self.own, *self._settings()], key=lambda item: item.name == "debug")
        parameters = [item.replace(kind=inspect.Parameter.KEYWORD_ONLY) for item in options]
        filled.__signature__ = inspect.Signature(parameters)  # pyright: ignore[reportFunctionMemberAccess]
        filled.__annotations__ = {item.name: item.annotation for item in parameters}
        alone = typer.Typer(add_completion=False)
        alone.command()(filled)
        return typer.main.get_command(alone)

    def _settings(self) -> Iterator[inspect.Parameter]:
        """The options of settings, panel by panel."""
        from wash_bench.study.options import OPTIONS

        wanted = {*self.keys, *self.changed} if self.keys else OPTIONS.keys()
        taken = [OPTIONS[key] for key in OPTIONS if key in wanted and key not in self.without]
        from wash_bench.config.field import PANELS

        for item in sorted(taken, key=lambda item: PANELS.index(item.of("panel"))):
            yield self._parameter(item, self.changed.get(item.key, {}))

    def _parameter(self, item: Option, changed: Mapping[str, str]) -> inspect.Parameter:
        from wash_bench.config.field import WHAT

        # Numbers reach the resolver as text, which is checked there like a preset's.
        several = item.of("repeat") or item.is_list
        kind: Any = bool if item.switch else list[str] if several else str
        flag = f"{item.flag}/--no-{item.flag[2:]}" if item.switch else item.flag
        own_file = item.key == "method"  # --methods takes it too, where there is that
        beside = own_file and ("methods" in {*self.keys, *self.changed} or not self.keys)
        option = typer.Option(
            "--methods" if own_file and not beside else flag,
            help=_with_default(item, changed),
            metavar=changed.get("metavar", item.metavar) or None,
            rich_help_panel=None if item.of("panel") == WHAT else item.of("panel"),
            show_default=False,
            autocompletion=complete.of_setting(item),
            hidden=beside,
        )
        return inspect.Parameter(
            item.key,
            inspect.Parameter.KEYWORD_ONLY,
            default=None,
            annotation=Annotated[kind | None, option],
        )


def _joined(key: str, value: Any) -> Any:
    """Return the value of a list's option, given once or several times, as one text with commas.

    Names and whole numbers that are given again are left out, as in ``--seeds 0 --seeds 0,1``.
    """
    from wash_bench.study.options import OPTIONS

    item = OPTIONS.get(key)
    if item is None or item.of("repeat") or not item.is_list or not isinstance(value, list):
        return value
    once = item.items is not float and key not in ("mean", "std")
    words: list[str] = []
    for at, text in enumerate(value):
        known = [word.strip() for word in words]
        words += [word for word in text.split(",") if not (at and once and word.strip() in known)]
    return ",".join(words) if words else None


def _with_default(item: Option, changed: Mapping[str, str]) -> str:
    """Return the help of an option with its default, unless that is that nothing is given."""
    help, default = changed.get("help", item.help), changed.get("default", item.default)
    if default in ("none", "no"):
        return help
    inside = help.endswith(").")
    return f"{help[:-2]}; default: {default})." if inside else f"{help[:-1]} (default: {default})."


_TAKEN: dict[Function, _Taken] = {}


def takes_settings(
    *keys: str,
    without: tuple[str, ...] = (),
    **changed: Mapping[str, str],
) -> Callable[[Function], Function]:
    """Let the function of a ``SettingsCommand`` take settings, as ``**options`` by key.

    Args:
        *keys: keys of settings; without any, all of them.
        without: keys of those that it does not take.
        **changed: further keys, with what their options say in place of the setting: help,
            metavar, default.

    Returns:
        The decorator. Options that are not given are None.
    """

    def decorate(function: Function) -> Function:
        parameters = inspect.signature(function, eval_str=True).parameters.values()
        own = tuple(item for item in parameters if item.kind is not inspect.Parameter.VAR_KEYWORD)
        _TAKEN[function] = _Taken(function, own, keys, without, changed)
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

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        from wash_bench.config.renamed import from_arguments

        known = {flag for option in self.get_params(ctx) for flag in option.opts}
        return super().parse_args(ctx, from_arguments(args, known))


def takes_any(function: Function) -> bool:
    """Whether a command's function takes settings."""
    return function in _TAKEN
