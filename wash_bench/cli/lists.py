"""``wash-bench methods|presets|datasets|models``: what there is."""

from typing import Annotated

import typer

from wash_bench.cli import complete
from wash_bench.cli.options import JSON
from wash_bench.errors import UsageError, nearest

Filter = Annotated[
    str | None,
    typer.Argument(
        metavar="FILTER",
        help="Part of a name, or a pattern with * and ?.",
        show_default="all",
    ),
]


def methods(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="NAME",
            help="A method, or path.py:Class.",
            show_default="all, one line each",
            autocompletion=complete.method,
        ),
    ] = None,
    kind: Annotated[
        str | None,
        typer.Option(
            metavar="[training|trajectory|merge|exchange]",
            help="Only training rules, averages along a trajectory, merge rules, or ways to "
            "exchange.",
            show_default="all",
        ),
    ] = None,
    names: Annotated[
        bool, typer.Option("--names", help="Print the names alone, one a line.")
    ] = False,
    as_json: Annotated[bool, JSON] = False,
) -> None:
    """List the methods, or show one with its options, their defaults and what is unverified.

    Examples:
        wash-bench methods
        wash-bench methods wash
    """
    from dataclasses import asdict

    from wash_bench.cli.printing import print_json, print_rows
    from wash_bench.plugins.options import as_typed
    from wash_bench.plugins.registry import describe, find_method, named_method

    if name is None:
        known = _names_of(kind)
        if names:
            typer.echo("\n".join(known))
            return
        described = [describe(find_method(each)) for each in known]
        if as_json:
            print_json([asdict(item) for item in described])
            return
        rows = [(item.name, item.kind, item.rule, item.sends) for item in described]
        print_rows(("method", "kind", "rule", "what a member sends"), rows)
        typer.echo("wash-bench methods NAME shows a method's options (--set NAME.OPTION=VALUE).")
        return
    if kind or names:
        raise UsageError("--kind and --names list methods: leave out NAME")
    method = describe(named_method(name))
    if as_json:
        print_json(asdict(method))
        return
    typer.echo(f"{method.name}: {method.rule}\nKind: {method.kind}")
    typer.echo(f"Source: {method.paper}\nSends: {method.sends}")
    for word, text in (("When", method.when), ("Needs", method.needs)):
        if text:
            typer.echo(f"{word}: {text}")
    if not method.options:
        typer.echo("It has no options.")
        return
    rows = [
        (f"{method.name}.{option.name}", as_typed(option.default), option.allowed, option.meaning)
        for option in method.options
    ]
    print_rows(("option", "default", "allowed", "meaning"), rows)


def _names_of(kind: str | None) -> list[str]:
    from wash_bench.core.method import KINDS
    from wash_bench.plugins.registry import method_names

    if kind is None:
        return method_names()
    for known in KINDS:
        if known == kind:
            return method_names(known)
    raise UsageError(f"--kind {kind}: {nearest(kind, KINDS)}")


def presets(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="NAME",
            help="A preset.",
            show_default="all, one line each",
            autocompletion=complete.preset,
        ),
    ] = None,
    as_json: Annotated[bool, JSON] = False,
) -> None:
    """List the presets, or print one (a start for a --preset-file of your own).

    Examples:
        wash-bench presets
        wash-bench presets cifar10-resnet18
    """
    from wash_bench.cli.printing import print_json, print_rows
    from wash_bench.study.presets import find_preset, preset_names

    if name is not None and as_json:
        print_json(find_preset(name).values)
        return
    if name is not None:
        typer.echo(find_preset(name).path.read_text(encoding="utf-8"), nl=False)
        return
    found = [find_preset(known) for known in preset_names()]
    if as_json:
        print_json([{"name": item.name, "description": item.description} for item in found])
        return
    print_rows(("preset", "what it runs"), [(item.name, item.description) for item in found])


def datasets(filter: Filter = None, as_json: Annotated[bool, JSON] = False) -> None:
    """List the data sets: size, licence and where they come from.

    Examples:
        wash-bench datasets
        wash-bench datasets cifar
    """
    from wash_bench.cli.printing import print_json, print_rows
    from wash_bench.data.catalog import all_specs

    specs = {spec.name: spec for spec in all_specs()}
    found = _filtered(list(specs), filter, "data set")
    if as_json:
        keys = ("name", "description", "train_images", "test_images", "classes", "channels")
        keys += ("licence", "source")
        print_json([{key: getattr(specs[name], key) for key in keys} for name in found])
        return
    rows = []
    for name in found:
        spec = specs[name]
        images = "yours"
        if spec.train_images is not None:
            images = f"{spec.train_images:,} + {spec.test_images:,}"
        classes = "yours" if spec.classes is None else f"{spec.classes:,}"
        rows.append((name, images, classes, spec.description, spec.licence, spec.source))
    headings = ("data set", "train + test", "classes", "what it is", "licence", "from")
    print_rows(headings, rows, right=headings[1:3])


def models(filter: Filter = None, as_json: Annotated[bool, JSON] = False) -> None:
    """List the architectures, one a line: all that timm knows, trained from scratch.

    Examples:
        wash-bench models resnet
        wash-bench models 'test_*'
    """
    from wash_bench.models.names import architecture_names

    found = _filtered(architecture_names(), filter, "model")
    if as_json:
        from wash_bench.cli.printing import print_json

        print_json(found)
        return
    typer.echo("\n".join(found))


def _filtered(names: list[str], pattern: str | None, what: str) -> list[str]:
    """The names that contain ``pattern`` or, if it has wildcards, match it as a whole."""
    import fnmatch

    if pattern is None:
        return names
    lower = pattern.lower()
    if any(sign in pattern for sign in "*?["):
        found = [name for name in names if fnmatch.fnmatchcase(name.lower(), lower)]
    else:
        found = [name for name in names if lower in name.lower()]
    if not found:
        raise UsageError(f"no {what} matches {pattern!r}: {nearest(pattern, names)}")
    return found
