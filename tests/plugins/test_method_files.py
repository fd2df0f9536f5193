"""Methods from files, and methods' options: what is taken and what is told."""

from __future__ import annotations

import multiprocessing
import pickle
import sys

import pytest

from tests.support.method_files import METHOD, line_of
from wash_bench.errors import WashBenchError
from wash_bench.plugins.options import parse_set, parse_value
from wash_bench.plugins.registry import (
    MethodEntry,
    describe,
    find_method,
    load_method_file,
    make_method,
)

# Files -------------------------------------------------------------------------------------------


def test_a_file_stands_on_equal_terms(file, monkeypatch):
    monkeypatch.chdir(file.parent)
    entry = load_method_file("mine.py:Mine")
    assert entry.name == "mine"
    assert entry.target == f"{file.resolve()}:Mine"
    assert len(entry.source_hash) == 8
    assert entry.load() is entry.load()
    method = make_method(entry, {"p": 0.25, "layers": [1, 2]})
    assert (method.options.p, method.options.every, method.options.layers) == (0.25, 1, (1, 2))


def _in_another_process(entry: MethodEntry) -> tuple[str, float]:
    return entry.load().name, make_method(entry, {"p": 0.75}).options.p


def test_entries_travel_to_spawned_processes(file):
    entry = load_method_file(f"{file}:Mine")
    assert pickle.loads(pickle.dumps(entry)) == entry
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.apply(_in_another_process, (entry,)) == ("mine", 0.75)


@pytest.mark.fault(
    "Checkpoints and code", "a method file changed between runs", "trained anew under another id"
)
def test_a_changed_file_is_noticed(file):
    entry = load_method_file(f"{file}:Mine")
    first = entry.load()
    file.write_text(METHOD.replace("x <- x", "x <- 2 x"))
    assert "has changed" in line_of(entry.load, kind=WashBenchError)
    again = load_method_file(f"{file}:Mine")
    assert again.source_hash != entry.source_hash
    assert (first.rule, again.load().rule) == ("x <- x", "x <- 2 x")


@pytest.mark.parametrize("spec", ["mine.py", "mine.py:", ":Mine", "mine:Mine", "mine.py:a-b", ""])
def test_the_form_of_a_file_method(spec):
    assert "path/to/file.py:Class" in line_of(load_method_file, spec)


@pytest.mark.fault(
    "Checkpoints and code", "a class that is no method", "one line with what it lacks"
)
@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("Mien", "no class 'Mien'; it has BadOptions, Clash, Half, Mine, Nameless, Picky, Spaced"),
        ("Other", "not a subclass"),
        ("METHOD", "no class"),
        ("Half", "lacks the method(s) after_step"),
        ("Nameless", "attribute(s) name"),
        ("Spaced", "'a b'"),
        ("Clash", "'wash' belongs to an installed method"),
        ("BadOptions", "MethodOptions"),
        ("Method", "method(s) after_step"),
    ],
)
def test_classes_that_are_no_method(file, name, words):
    line = line_of(load_method_file, f"{file}:{name}")
    assert words in line
    assert str(file) in line


@pytest.mark.fault(
    "Checkpoints and code",
    "a method file that does not import",
    "one line with file, line and error",
)
@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("x = 1\ny = x / 0\n", ["ZeroDivisionError", "line 2"]),
        ("x = (\n", ["SyntaxError", "line 1"]),
        ("import no_such_module_here\n", ["ModuleNotFoundError", "no_such_module_here", "line 1"]),
        ("\n\nraise SystemExit(3)\n", ["SystemExit", "line 3"]),
        ("raise ValueError('a\\nb')\n", ["ValueError: a b"]),
        ("x = 1\n", ["no class 'Mine'; it defines no Method"]),
        ("x = '\0'", ["does not import"]),
    ],
)
def test_files_that_do_not_import(file, source, words):
    file.write_text(source)
    before = set(sys.modules)
    line = line_of(load_method_file, f"{file}:Mine")
    assert all(word in line for word in [*words, str(file)])
    assert not any(
        "mine" in name and "does not import" in line for name in set(sys.modules) - before
    )


def test_missing_file_and_folder(tmp_path):
    assert "does not exist" in line_of(load_method_file, f"{tmp_path}/none.py:Mine")
    (tmp_path / "folder.py").mkdir()
    assert "cannot be read" in line_of(load_method_file, f"{tmp_path}/folder.py:Mine")


# Options -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"q": 1}, ["has no option 'q'"]),
        ({"evry": 1}, ["did you mean 'every'?"]),
        ({"p": 1.5}, ["mine.p=1.5", "less than or equal to 1", "float in [0, 1]"]),
        ({"p": -1, "every": 0}, ["mine.p=-1", "; mine.every=0", "int >= 1"]),
        ({"p": "many"}, ["mine.p=many", "float in [0, 1]"]),
        ({"p": True}, ["mine.p=true", "float in [0, 1]"]),
        ({"p": float("nan")}, ["mine.p=nan"]),
        ({"rule": "sideways"}, ["mine.rule=sideways", "up or down"]),
        ({"twice": 7}, ["mine.twice=7", "true or false"]),
        ({"stop": -1}, ["mine.stop=-1", "int or none >= 0"]),
        ({"layers": ["a", "b"]}, ["mine.layers"]),
        ({"twice": True, "rule": "up"}, ["mine: twice goes with rule=down only"]),
    ],
)
def test_wrong_options(file, options, words):
    line = line_of(make_method, load_method_file(f"{file}:Mine"), options)
    for word in words:
        assert word in line


def test_a_wrappers_options_are_a_table():
    line = line_of(make_method, find_method("wash+ema"), {"ema": 3})
    assert "wash+ema.ema=3: write ema.OPTION=VALUE" in line


def test_a_constructor_that_refuses(file):
    entry = load_method_file(f"{file}:Picky")
    assert "p = 0 moves nothing" in line_of(make_method, entry, {"p": 0})


def test_describe(file):
    words = describe(load_method_file(f"{file}:Mine"))
    assert (words.name, words.rule, words.paper, words.sends) == (
        "mine",
        "x <- x",
        "none",
        "nothing",
    )
    table = {option.name: option for option in words.options}
    assert list(table) == ["p", "every", "rule", "twice", "stop", "layers"]
    p, every = table["p"], table["every"]
    assert (p.type, p.default, p.unit, p.limits) == ("float", 0.5, "probability", "in [0, 1]")
    assert (p.description, p.unverified) == ("share that moves", "")
    assert (every.limits, every.unverified) == (">= 1", "not in the paper")
    assert [table[name].type for name in ("rule", "twice", "stop", "layers")] == [
        "up or down",
        "true or false",
        "int or none",
        "list of int",
    ]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0.05", 0.05),
        ("1e-3", 1e-3),
        (" 7 ", 7),
        ("true", True),
        ("[1, 2]", [1, 2]),
        ("['a']", ["a"]),
        ('"5"', "5"),
        ("decreasing", "decreasing"),
        ("2020-01-01", "2020-01-01"),
        ("1\nother = 2", "1\nother = 2"),
        ("a=b", "a=b"),
        ("False", False),
        ("True", True),
        ("None", None),
        ("(1, 2)", [1, 2]),
        ("[None, (1.5, 'a')]", [None, [1.5, "a"]]),
        ("{'a': False}", {"a": False}),
        ("Falsehood", "Falsehood"),
    ],
)
def test_values(text, value):
    parsed = parse_value(text)
    assert parsed == value
    assert type(parsed) is type(value)


def test_sets():
    items = ["wash.p=0.05", "papa.alpha = 0.9", "wash.layer=first", "x.f=a=b"]
    assert parse_set(items) == {
        "wash": {"p": 0.05, "layer": "first"},
        "papa": {"alpha": 0.9},
        "x": {"f": "a=b"},
    }
    assert parse_set([]) == {}


@pytest.mark.parametrize("item", ["p=1", "wash.p", "wash.=1", ".p=1", "", "wash.p=", "wash.p=[1,"])
def test_wrong_sets(item):
    assert f"--set {item}" in line_of(parse_set, [item])
