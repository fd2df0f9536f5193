"""``wash-bench new-method``: a method file and its test, to begin from."""

from __future__ import annotations

import enum
import re
from pathlib import Path
from typing import Annotated

import typer

from wash_bench.errors import UsageError


class Kind(enum.StrEnum):
    """What the method is."""

    training = "training"
    merge = "merge"
    wrapper = "wrapper"


def new_method(
    name: Annotated[
        str,
        typer.Argument(metavar="NAME", help="The method's name, as my-rule.", show_default=False),
    ],
    kind: Annotated[
        Kind,
        typer.Option(
            help="training: couples members while they train; merge: makes a network of trained "
            "members; wrapper: goes around any training rule."
        ),
    ] = Kind.training,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where the files go.")] = Path(),
) -> None:
    """Write a method file and its test, which run as they are, to change into your own.

    Examples:
        wash-bench new-method my-rule
        wash-bench new-method my-soup --kind merge --out methods
    """
    from importlib.resources import files
    from string import Template

    from wash_bench.plugins.registry import FOLDER

    module, cls = names_of(name)
    packaged = out.resolve() == FOLDER.resolve()
    method = out / f"{module}.py"
    # A package of methods has no tests in it.
    beside = FOLDER.resolve().parent / "tests" / "methods" if packaged else out
    test = beside / f"test_{module}.py"
    target = name if packaged else f"{method}:{cls}"
    words = {"name": name, "module": module, "Class": cls, "shown": target}
    words |= {"imported": f"wash_bench.methods.{module}", "finder": "find_method"}
    words["place"] = f'"{name}"'
    if not packaged:
        words |= {"imported": module, "finder": "load_method_file", "shown": f"{module}.py:{cls}"}
        words["place"] = f'__file__.replace("test_{module}.py", "{module}.py:{cls}")'
    for path in (method, test):
        if path.exists():
            raise UsageError(f"{path} is there already: choose another NAME, or another --out")
    _check_free(name, module)
    templates = files("wash_bench") / "templates"
    for path, template in ((method, f"{kind}.py.txt"), (test, f"test_{kind}.py.txt")):
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("x", encoding="utf-8") as file:
            file.write(Template((templates / template).read_text("utf-8")).substitute(words))
    typer.echo(f"Wrote {method} and {test}. Next:\n")
    typer.echo(f"  wash-bench run digits --methods {target}    # compare it with the others")
    typer.echo(f"  wash-bench check {target}    # what every method must hold")
    typer.echo(f"  python -m pytest {test}")
    guide = templates / "own-method.md"
    typer.echo(f"\nThen write your rule into {method.name}; the hooks are explained in\n  {guide}")


def names_of(name: str) -> tuple[str, str]:
    """The module and the class of a method's name.

    Returns:
        Both names.

    Raises:
        UsageError: it does not make any.

    >>> names_of("my-rule")
    ('my_rule', 'MyRule')
    """
    import keyword

    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_-]*", name):
        raise UsageError(
            f"NAME {name!r}: begin with a letter, go on with letters, digits, - and _, as my-rule"
        )
    module = re.sub(r"[-_]+", "_", name).strip("_").lower()
    if keyword.iskeyword(module):
        raise UsageError(f"NAME {name!r} is a word of Python's: choose another, as my-{name}")
    cls = "".join(part[0].upper() + part[1:] for part in re.split(r"[-_]+", name) if part)
    return module, cls


def _check_free(name: str, module: str) -> None:
    """Refuse the name of an installed method, or of a module that the file would hide."""
    import importlib.util

    from wash_bench.plugins.registry import method_names

    if name in method_names():
        raise UsageError(
            f"NAME {name!r} belongs to an installed method: choose another, as my-{name}"
        )
    if importlib.util.find_spec(module) is not None:
        raise UsageError(
            f"NAME {name!r}: {module}.py would hide an installed module: choose another, "
            f"as my-{name}"
        )
