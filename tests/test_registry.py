"""The method registry: entry points, method files, options, and the error lines."""

from __future__ import annotations

import hashlib
import importlib.metadata
import multiprocessing
import pickle
import subprocess
import sys
from pathlib import Path

import pytest

from wash_bench.cli.main import run_command
from wash_bench.config import DEFAULT_METHODS
from wash_bench.core.method import KINDS
from wash_bench.errors import UsageError, WashBenchError
from wash_bench.plugins import registry
from wash_bench.plugins.options import parse_set, parse_value
from wash_bench.plugins.registry import (
    MethodEntry,
    describe,
    find_method,
    load_method_file,
    make_method,
    method_names,
)

ROOT = Path(__file__).parents[1]
METHOD = """
from typing import Literal

from pydantic import model_validator

from wash_bench.core.method import Method, MethodOptions, option


class MineOptions(MethodOptions):
    p: float = option(0.5, "share that moves", unit="probability", ge=0, le=1)
    every: int = option(1, "steps between", unit="steps", ge=1, unverified="not in the paper")
    rule: Literal["up", "down"] = option("down", "layer rule")
    twice: bool = option(False, "do it twice")
    stop: int | None = option(None, "last step", ge=0)
    layers: tuple[int, ...] = option((), "which layers")

    @model_validator(mode="after")
    def _check(self):
        if self.twice and self.rule == "up":
            raise ValueError("twice goes with rule=down only")
        return self


class Mine(Method):
    name, rule, paper, sends = "mine", "x <- x", "none", "nothing"
    Options = MineOptions

    def after_step(self, population, exchange, clock):
        pass

    def charges(self, site, clock):
        return []

    def predictors(self, population, judge):
        return {}


class Half(Method):
    name, rule, paper, sends = "half", "x", "none", "nothing"

    def charges(self, site, clock):
        return []


class Nameless(Mine):
    name = ""


class Spaced(Mine):
    name = "a b"


class Clash(Mine):
    name = "wash"


class BadOptions(Mine):
    Options = dict


class Picky(Mine):
    name = "picky"

    def __init__(self, options=None):
        super().__init__(options)
        if self.options.p == 0:
            raise ValueError("p = 0 moves\\nnothing")


class Other:
    pass
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "mine.py"
    path.write_text(METHOD)
    return path


def line_of(call, *arguments, kind: type[WashBenchError] = UsageError) -> str:
    """The one line of the error that a call ends with."""
    with pytest.raises(kind) as caught:
        call(*arguments)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# Entry points ------------------------------------------------------------------------------------


def test_registry_imports_neither_torch_nor_methods():
    code = (
        "import sys; from wash_bench.plugins import options, registry as r;"
        "r.method_names(); r.find_method('wash');"
        "options.parse_set(['wash.p=0.1']);"
        "bad = {'torch', 'pydantic', 'wash_bench.methods', 'wash_bench.core.method'};"
        "assert not bad & set(sys.modules), bad & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_our_methods_are_there():
    assert set(DEFAULT_METHODS) <= set(method_names())
    for name in DEFAULT_METHODS:
        entry = find_method(name)
        assert entry.source_hash is None
        cls = entry.load()
        assert cls.name == name
        words = describe(entry)
        assert words.rule and words.paper and words.sends
        assert all(option.description for option in words.options)
        assert make_method(entry).options == cls.Options()


def test_unknown_method_gets_the_nearest():
    assert "'papa'" in line_of(find_method, "pappa")


def test_nothing_installed(monkeypatch):
    monkeypatch.setattr(registry, "entry_points", lambda group: ())
    assert method_names() == []
    assert "pip install" in line_of(find_method, "wash")


class Dist:
    name = "somebody-elses"


def test_methods_of_other_distributions(monkeypatch, tmp_path, file):
    points = []
    for name, value in [
        ("mine", "outside_mine:Mine"),
        ("other-name", "outside_mine:Picky"),
        ("gone", "outside_gone:Mine"),
        ("broken", "outside_broken:Mine"),
        ("twin", "outside_mine:Mine"),
        ("twin", "outside_mine:Picky"),
    ]:
        point = importlib.metadata.EntryPoint(name, value, registry.GROUP)
        points.append(point._for(Dist()))
    monkeypatch.setattr(registry, "entry_points", lambda group: points)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "outside_mine.py").write_text(METHOD)
    (tmp_path / "outside_broken.py").write_text("import no_such_module\n")

    entry = find_method("mine")
    assert entry.target == "outside_mine:Mine"
    assert entry.source_hash == hashlib.sha256(METHOD.encode()).hexdigest()[:8]
    assert make_method(entry, {"p": 1}).options.p == 1
    assert "calls itself 'picky'" in line_of(find_method("other-name").load)
    assert "no module outside_gone" in line_of(find_method, "gone")
    line = line_of(find_method("broken").load)
    assert "ModuleNotFoundError" in line and "outside_broken.py, line 1" in line
    assert "offered twice" in line_of(find_method, "twin")


# Kinds -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("wash", "training"),
        ("naive-ensemble", "training"),
        ("ema", "trajectory"),
        ("wash+ema", "trajectory"),
        ("greedy-soup", "merge"),
        ("wash+greedy-soup", "merge"),
        ("wash+ema+median", "merge"),
        ("overlap", "exchange"),
        ("wash+overlap", "training"),  # the same rule, exchanged otherwise
    ],
)
def test_every_method_has_a_kind(name, kind):
    assert find_method(name).kind == describe(find_method(name)).kind == kind


def test_every_installed_method_is_listed_under_one_kind():
    listed = [name for kind in KINDS for name in method_names(kind)]
    assert sorted(listed) == method_names()


RULE = """
from wash_bench.core.method import Method
from wash_bench.core.wrapper import MergeRule


class Still(Method):
    name, rule, paper, sends = "still", "theta_n <- theta_n", "none", "nothing"

    def after_step(self, population, exchange, clock):
        pass


class First(MergeRule):
    name, rule, paper, sends = "first", "theta = theta_1", "none", "nothing"

    def merge(self, population, judge):
        from wash_bench.core.judge import Predictor

        return Predictor([judge.members[0]], (0,))
"""


def test_a_file_and_an_entry_point_add_a_method_everywhere(monkeypatch, tmp_path, capsys):
    """The command, the Makefile (which asks the command), the table of all methods, the README."""
    ours = importlib.metadata.distribution("wash-bench")
    points = list(importlib.metadata.entry_points(group=registry.GROUP))
    for name, cls in (("still", "Still"), ("first", "First")):
        point = importlib.metadata.EntryPoint(name, f"added_rules:{cls}", registry.GROUP)
        points.append(point._for(ours))
    monkeypatch.setattr(registry, "entry_points", lambda group: points)
    (tmp_path / "added_rules.py").write_text(RULE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.syspath_prepend(ROOT / "scripts")
    from update_readme import methods

    for name, kind in (("still", "training"), ("first", "merge"), ("papa+first", "merge")):
        assert find_method(name).kind == kind
        if "+" not in name:
            assert run_command(["methods", "--kind", kind, "--names"]) == 0
            assert name in capsys.readouterr().out.split()
            assert f"`{name}`" in methods()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--kind", "mrge"], "--kind mrge: did you mean 'merge'?"),
        (["papa", "--names"], "leave out NAME"),
        (["papa", "--kind", "merge"], "leave out NAME"),
    ],
)
def test_mistaken_lists_are_told_in_one_line(arguments, said, capsys):
    assert run_command(["methods", *arguments]) == 2
    told = capsys.readouterr().err
    assert said in told and len(told.splitlines()) == 1


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
    ],
)
def test_values(text, value):
    parsed = parse_value(text)
    assert parsed == value
    assert type(parsed) is type(value)


def test_sets():
    items = ["wash.p=0.05", "papa.alpha = 0.9", "wash.layer=first", "wash.p=0.1", "x.f=a=b"]
    assert parse_set(items) == {
        "wash": {"p": 0.1, "layer": "first"},
        "papa": {"alpha": 0.9},
        "x": {"f": "a=b"},
    }
    assert parse_set([]) == {}


@pytest.mark.parametrize("item", ["p=1", "wash.p", "wash.=1", ".p=1", "", "wash.p=", "wash.p=[1,"])
def test_wrong_sets(item):
    assert f"--set {item}" in line_of(parse_set, [item])
