"""Options that take a list: commas, repetition, ranges; timm's names of options; --dry-run."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.command import command
from wash_bench.cli import options as cli_options
from wash_bench.cli.run import run
from wash_bench.config.renamed import OF_TIMM
from wash_bench.errors import UsageError
from wash_bench.study.options import OPTIONS
from wash_bench.study.resolve import resolve

VALUES = {
    "methods": ["wash", "papa", "dart"],
    "seeds": ["0", "3", "7"],
    "classes": ["0", "2", "5"],
    "mean": ["0.1", "0.2", "0.3"],
    "std": ["0.1", "0.2", "0.3"],
    "milestones": ["0.3", "0.6", "0.9"],
    "corruptions": ["fog", "contrast", "frost"],
    "corruption_severities": ["1", "3", "5"],
    "branches": ["plain", "cutout", "auto-augment"],
    "log": ["csv", "a.py:B", "wandb"],
}


def taken(words: list[str]) -> dict[str, Any]:
    """What the command hands on of its options."""
    found: dict[str, Any] = {}
    own = cli_options._TAKEN[run]
    made = replace(own, function=lambda **given: found.update(given)).command()
    made(words, standalone_mode=False)
    return {key: value for key, value in found.items() if value is not None and key in OPTIONS}


def test_every_list_is_tried_here() -> None:
    lists = {key for key, item in OPTIONS.items() if item.is_list and not item.of("repeat")}
    assert lists == VALUES.keys()


@pytest.mark.parametrize("key", VALUES)
@settings(max_examples=4, deadline=None)
@given(data=st.data())
def test_commas_and_repetition_are_one_list(key: str, data: st.DataObject) -> None:
    values, words, first = VALUES[key], [], 0
    while first < len(values):
        last = data.draw(st.integers(first + 1, len(values)))
        words += [OPTIONS[key].flag, ",".join(values[first:last])]
        first = last
    assert taken(words)[key] == ",".join(values)


def test_what_is_given_again_counts_once() -> None:
    assert taken(["--seeds=0", "--seeds", "0,1", "--seeds=1,2"])["seeds"] == "0,1,2"
    assert taken(["--methods=wash", "--methods=papa,wash"])["methods"] == "wash,papa"
    assert taken(["--mean=0.5", "--mean=0.5,0.5"])["mean"] == "0.5,0.5,0.5"


@given(st.lists(st.tuples(st.integers(0, 40), st.integers(0, 5)), min_size=1, max_size=4))
def test_ranges_are_their_numbers(ends: list[tuple[int, int]]) -> None:
    text = ",".join(f"{low}-{low + more}" if more else str(low) for low, more in ends)
    numbers = [n for low, more in ends for n in range(low, low + more + 1)]
    if len(set(numbers)) == len(numbers):
        assert resolve("digits", None, {"seeds": text}).config.seeds == tuple(numbers)
    else:
        with pytest.raises(UsageError, match="is given twice"):
            resolve("digits", None, {"seeds": text})


@pytest.mark.parametrize("text", ["5-2", "1-", "-3", "1-2-3", "0-99999999", "a-b"])
def test_what_is_no_range_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="--seeds"):
        resolve("digits", None, {"seeds": text})


def test_timms_names_are_taken_for_ours() -> None:
    words = ["--opt=adamw", "--min-lr", "0.1", "--img-size=8", "--seed=3", "--pretrained"]
    expected = {"optimizer": "adamw", "lr_min": "0.1", "image_size": "8", "seeds": "3"}
    expected |= {"init": "pretrained"}
    from wash_bench.config.renamed import from_arguments

    known = [option.flag for option in OPTIONS.values()] + ["--preset-file"]
    assert taken(from_arguments(words, known)) == expected
    assert {flag.partition("=")[0] for flag in OF_TIMM.values()} <= {*known}


def test_a_dry_run_is_a_plan(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    words = ["digits", "--methods=wash", "--seeds=0", "--train-limit=96", "--image-size=8"]
    words += ["--model=resnet8", f"--out={tmp_path / 'r'}", "--json"]
    found = []
    for command_line in (["plan", *words], ["run", *words, "--dry-run"]):
        code, told, _ = command(capsys, *command_line)
        assert code == 0
        found.append([cell["method"] for cell in json.loads(told)["cells"]])
    assert found[0] == found[1] != [] and not (tmp_path / "r").exists()
