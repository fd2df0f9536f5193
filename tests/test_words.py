"""Names in the field's words: a list of words that no identifier and no module may hold.

The glossary of CONTRIBUTING.md says what stands in their place. Names that still hold one are
counted in ``ALLOWED``, which may only shrink: rename one, and lower its count.
"""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = ("wash_bench", "methods", "scripts", "benchmarks")

BANNED = {
    *("alone", "asked", "asks", "complaint", "complaints", "door", "elsewhere", "kept", "likeness"),
    *("looks", "memo", "orphan", "shown", "tell", "told", "undisturbed", "who", "whose", "witness"),
}
"""Final: words of identifiers and modules, singly or between underscores."""

BANNED_CLASSES = BANNED | {
    *("begun", "chosen", "declared", "drawn", "evaluated", "finished", "found", "given", "known"),
    *("left", "made", "merged", "seen", "taken", "tried", "tuned", "written"),
}
"""Final: words that no class is named with; participles say what was done, not what it is."""

ALLOWED: dict[str, int] = {
    "alone": 9,
    "asked": 3,
    "complaints": 1,
    "elsewhere": 1,
    "kept": 41,
    "likeness": 1,
    "memo": 1,
    "shown": 10,
    "tell": 5,
    "told": 44,
}
ALLOWED_CLASSES: dict[str, int] = {
    "found": 1,
    "made": 1,
    "merged": 2,
    "taken": 1,
}


def words_of(name: str) -> set[str]:
    """Split an identifier at underscores and capitals."""
    return set(re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower().split("_")) - {""}


def bound(tree: ast.Module) -> Iterator[str]:
    """Yield each name where a module binds it: functions, arguments, variables, attributes."""
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield node.name
        elif isinstance(node, ast.arg):
            yield node.arg
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.attr
        elif isinstance(node, ast.alias) and node.asname:
            yield node.asname


def classes(tree: ast.Module) -> Iterator[str]:
    return (node.name for node in ast.walk(tree) if isinstance(node, ast.ClassDef))


def uses() -> tuple[Counter[str], Counter[str], dict[str, list[str]]]:
    """Count banned words in names and in names of classes, with where each stands."""
    names: Counter[str] = Counter()
    of_classes: Counter[str] = Counter()
    places: dict[str, list[str]] = {}
    paths = {path.resolve() for part in SOURCES for path in (ROOT / part).rglob("*.py")}
    for path in sorted(paths):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for counter, banned, found in (
            (names, BANNED, [path.stem, *bound(tree)]),
            (of_classes, BANNED_CLASSES, classes(tree)),
        ):
            for name in found:
                for word in words_of(name) & banned:
                    counter[word] += 1
                    places.setdefault(word, []).append(f"{path.relative_to(ROOT)}: {name}")
    return names, of_classes, places


def test_no_name_holds_a_banned_word() -> None:
    names, of_classes, places = uses()
    for found, allowed in ((names, ALLOWED), (of_classes, ALLOWED_CLASSES)):
        more = {word: count for word, count in found.items() if count > allowed.get(word, 0)}
        where = "\n".join(place for word in more for place in places[word])
        assert not more, (
            f"{more}: more than ALLOWED says; use the glossary's words instead:\n{where}"
        )


def test_only_banned_words_are_allowed_for_now() -> None:
    assert ALLOWED.keys() <= BANNED and ALLOWED_CLASSES.keys() <= BANNED_CLASSES


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("def told(): pass", {"told"}),
        ("def f(asked_for): pass", {"asked"}),
        ("self.kept = 1", {"kept"}),
        ("import x as shown", {"shown"}),
        ("for who in (): pass", {"who"}),
        ("toldness = print('told')", set()),
        ("x.told", set()),
    ],
)
def test_what_is_found_in_a_source(source: str, found: set[str]) -> None:
    tree = ast.parse(source)
    assert {word for name in bound(tree) for word in words_of(name)} & BANNED == found


def test_a_participle_is_no_name_of_a_class() -> None:
    (name,) = classes(ast.parse("class CellFound: pass"))
    assert words_of(name) & BANNED_CLASSES == {"found"}
