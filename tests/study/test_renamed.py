"""Options under their old names: taken, with a hint, to the same configuration."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.command import command
from wash_bench.config.renamed import NAMES, VALUES, flag_of, from_arguments, from_file, recorded
from wash_bench.errors import UsageError
from wash_bench.study.options import OPTIONS
from wash_bench.study.resolve import resolve

LINES = [
    ("--procs 2", "--nproc 2"),
    ("--silence=30", "--heartbeat-timeout=30"),
    ("--accumulate 4", "--grad-accum-steps 4"),
    ("--augment homogeneous", "--augment=same"),
    ("--augment=heterogeneous,homogeneous", "--augment=per-member,same"),
    ("--vary lr=0.1,0.2", "--member-grid lr=0.1,0.2"),
    ("--coupling-budget paper", "--rescale-coupling"),
    ("--coupling-budget=given", "--no-rescale-coupling"),
    ("--merge-every 3", "--eval-average-every 3"),
    ("--which own", "--network=delivered"),
    ("--which member:2", "--network=member:2"),
    ("--method a.py:A", "--methods a.py:A"),
]


@pytest.mark.parametrize(("old", "new"), LINES)
def test_an_old_option_becomes_the_new_one_with_one_hint(old: str, new: str, capsys) -> None:
    assert from_arguments(["wash", *old.split(), "--", "--procs"], ()) == [
        *("wash", *new.split(), "--", "--procs")
    ]
    assert capsys.readouterr().err.count("note: --") == 1
    assert from_arguments(new.split(), ()) == new.split()
    assert not capsys.readouterr().err


def test_every_renamed_field_is_an_option_and_values_go_back() -> None:
    assert NAMES.keys() - OPTIONS.keys() == {"which"}
    for field, words in VALUES.items():
        for own, word in words.items():
            assert recorded(field, word) == own == recorded(field, own)
    for key in NAMES.keys() & OPTIONS.keys():
        assert OPTIONS[key].flag == flag_of(key)


def test_files_and_command_lines_take_both_names_to_one_configuration(tmp_path: Path) -> None:
    old = 'augment = "heterogeneous"\naccumulate = 2\ncoupling-budget = "given"\nmerge-every = 3\n'
    new = 'augment = "per-member"\ngrad-accum-steps = 2\nrescale-coupling = false\n'
    found = []
    for text in (old, new + "eval-average-every = 3\n"):
        (tmp_path / "own.toml").write_text(text)
        found.append(resolve(None, tmp_path / "own.toml", {}).config)
    assert found[0] == found[1] and found[0].training.augment == "heterogeneous"
    assert found[0].merge_every == 3 and found[0].training.accumulate == 2
    with pytest.raises(UsageError, match="'nproc' twice"):
        from_file({"procs": 2, "nproc": 3}, "own.toml")


def test_a_plan_by_old_names_is_that_by_new_ones(capsys) -> None:
    line = ("plan", "digits", "--methods", "wash", "--train-limit=64", "--json", "--threads=1")
    cells = []
    for words in (["--augment", "heterogeneous"], ["--augment", "per-member"]):
        code, out, _ = command(capsys, *line, *words)
        assert code == 0
        cells.append([cell["steps"] for cell in json.loads(out)["cells"]])
    assert cells[0] == cells[1]
    code, _, error = command(capsys, "plan", "--augment", "homogenous")
    assert code == 2 and "one of same, per-member" in error
