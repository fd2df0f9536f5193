"""The method registry: files, entry points, kinds, and the error lines."""

from __future__ import annotations

import hashlib
import importlib
import importlib.metadata
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.method_files import METHOD, line_of
from wash_bench.cli.main import run_command
from wash_bench.config import DEFAULT_METHODS
from wash_bench.core.method import KINDS
from wash_bench.plugins import registry
from wash_bench.plugins.registry import (
    describe,
    find_method,
    make_method,
    method_names,
)

ROOT = Path(__file__).parents[2]


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


def test_each_of_our_methods_says_itself_when_it_is_of_use():
    """What a rule is for does not hold for those that are made from it."""
    ours = [entry for entry in map(find_method, method_names()) if entry.source_hash is None]
    classes = [entry.load() for entry in ours]
    assert all({"when", "needs"} <= vars(cls).keys() and cls.when for cls in classes)
    assert len({cls.when for cls in classes}) == len(ours)


def test_unknown_method_gets_the_nearest():
    assert "'papa'" in line_of(find_method, "pappa")


def test_a_file_dropped_into_the_folder_is_a_method(monkeypatch, tmp_path):
    """Without reinstallation; a file that holds another name, or two of them, is refused."""
    shutil.copytree(registry.FOLDER, tmp_path / "methods")
    monkeypatch.setattr(registry, "FOLDER", tmp_path / "methods")
    monkeypatch.setattr(
        importlib.import_module("wash_bench.methods"), "__path__", [str(tmp_path / "methods")]
    )
    source = RULE.split("class First")[0].replace(
        'name, rule, paper, sends = "still", "theta_n <- theta_n", "none", "nothing"',
        'name = "stands-still"\n    rule = "theta_n <- theta_n"\n    paper = sends = "none"',
    )
    (tmp_path / "methods" / "stands_still.py").write_text(source)
    assert "stands-still" in method_names("training")
    assert find_method("stands-still").target == "wash_bench.methods.stands_still:Still"
    assert find_method("stands-still").source_hash is None
    monkeypatch.syspath_prepend(ROOT / "scripts")
    assert "`stands-still`" in importlib.import_module("update_readme").methods()
    (tmp_path / "methods" / "other.py").write_text(source)
    assert 'must have one class with the line name = "other"' in line_of(find_method, "other")


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
        from wash_bench.core.merge_context import Predictor

        return Predictor([judge.members[0]], (0,))
"""


def test_an_entry_point_adds_a_method_everywhere(monkeypatch, tmp_path, capsys):
    """For the command, the Makefile (which asks the command) and the table of all methods."""
    points = []
    for name, cls in (("still", "Still"), ("first", "First")):
        point = importlib.metadata.EntryPoint(name, f"added_rules:{cls}", registry.GROUP)
        points.append(point._for(Dist()))
    monkeypatch.setattr(registry, "entry_points", lambda group: points)
    (tmp_path / "added_rules.py").write_text(RULE)
    monkeypatch.syspath_prepend(tmp_path)
    for name, kind in (("still", "training"), ("first", "merge"), ("papa+first", "merge")):
        assert find_method(name).kind == kind
        if "+" not in name:
            assert run_command(["methods", "--kind", kind, "--names"]) == 0
            assert name in capsys.readouterr().out.split()


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
