"""The main table: its numbers, marks, caption and notes."""

from __future__ import annotations

import json
import math
import re
import statistics

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.records import FACTS, PARAMETERS, STEPS, write_cell
from wash_bench.cli.main import run_command
from wash_bench.report import write
from wash_bench.report.read import frames
from wash_bench.report.tables.main_table import main_tables
from wash_bench.report.tables.markdown import escape
from wash_bench.report.tables.table import format_sig


def split_row(line: str) -> list[str]:
    """The cells of a GitHub table row: pipes part them unless escaped."""
    return [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]


def test_markdown_is_a_table_with_equal_rows(reported):
    text = (reported / "table.md").read_text()
    rows = [split_row(line) for line in text.splitlines() if line.startswith("|")]
    assert len(rows) == 2 + 6
    assert {len(row) for row in rows} == {17}
    assert rows[0][0] == "method"
    assert all(set(cell) <= {"-", ":"} for cell in rows[1])
    # A table must follow an empty line, and what follows it too.
    lines = text.splitlines()
    start = lines.index("| " + " | ".join(rows[0]) + " |")
    assert lines[start - 1] == "" and lines[start + 8] == ""


def test_table_values(recorded):
    (table,) = main_tables(frames.load([recorded]))
    frame = table.frame().set_index("method")
    noise = [np.random.default_rng(seed).normal(0, 0.3) for seed in range(3)]
    half = 4.302653 * statistics.stdev(noise) / math.sqrt(3)
    mean = statistics.fmean(noise)
    wash = frame.loc["wash"]
    assert wash["averaged"] == f"{88.4 + mean:.2f} ± {half:.2f}"
    assert list(frame.columns[:2]) == ["delivered", "delivered, NLL"]
    assert re.fullmatch(rf"{88.4 + mean:.2f} ± {half:.2f} [a-z]", wash["delivered"])
    assert "(3 networks)" in frame.loc["naive-ensemble", "delivered"]
    assert wash["members [min, max]"] == (
        f"{86.5 + mean:.2f} ± {half:.2f}"
        f" [{86.5 + min(noise) - 0.7:.2f}, {86.5 + max(noise) + 0.6:.2f}]"
    )
    # average - ensemble at the seeds: 0.1, 0.05, 0; std 0.05.
    assert wash["averaged − ensemble"] == f"+0.05 ± {4.302653 * 0.05 / math.sqrt(3):.2f}"
    assert wash["loss barrier, max"] == "0.030 ± 0.025"
    assert wash["values sent a step"] == "5,489"
    assert wash["MB sent"] == format_sig(0.0147 * PARAMETERS * STEPS * 4 / 1e6) == "32.8"
    assert wash["MB on the wire"] == "41.1"
    assert wash["sent vs PAPA"] == "0.147×"
    assert frame.loc["papa", "sent vs PAPA"] == "1.00×"
    assert frame.loc["naive-ensemble", "sent vs PAPA"] == "0×"
    assert frame.loc["naive-ensemble", "greedy soup (size)"].endswith("(1)")
    assert wash["train s"] == "42.5"


def test_letters_in_markdown(tmp_path):
    values = {"wash": (90.0, 91.0, 92.0), "papa": (90.2, 90.8, 91.7), "dart": (80.0, 81.05, 82.0)}
    for method, accuracies in values.items():
        for seed, accuracy in enumerate(accuracies):
            write_cell(tmp_path, method, seed, summary={"average_acc": accuracy})
    (table,) = main_tables(frames.load([tmp_path]))
    lines = [line for line in table.markdown().splitlines() if line.startswith("|")]
    rows = {row[0]: row for row in map(split_row, lines[2:])}
    for heading in ("delivered", "delivered, NLL"):
        place = table.columns.index(heading)
        assert [row[place].split()[-1] for row in rows.values()] == ["a", "a", "b"]
    assert re.fullmatch(r"91\.00 ± [\d.]+", rows["wash"][table.columns.index("averaged")])
    assert any(note.startswith("Rows that share a letter are not sig") for note in table.notes)


def test_a_collapsed_row_is_named_and_has_no_letter(tmp_path):
    for seed in range(3):
        write_cell(tmp_path, "wash", seed)
        write_cell(tmp_path, "papa", seed)
        write_cell(tmp_path, "dart", seed, summary={"average_acc": 12.0 + seed})
    (table,) = main_tables(frames.load([tmp_path]))
    frame = table.frame().set_index("method")["delivered"]
    assert frame["wash"][-1].isalpha() and frame["dart"][-1].isdigit()
    assert any(note.startswith("Collapsed, and left out of the comparisons: dart (")
               for note in table.notes)  # fmt: skip


def test_notes_name_failures_barriers_and_shared_trainings(recorded):
    (table,) = main_tables(frames.load([recorded]))
    notes = "\n".join(table.notes)
    assert "Failed: wash, seed 3: member 1: loss is nan at step 7 | lower --lr" in notes
    noise = statistics.fmean(np.random.default_rng(seed).normal(0, 0.3) for seed in range(3))
    assert (
        "greedy-soup, naive-ensemble: members share no basin: the loss barrier between members is"
        f" 2.1 nats, so the average has {10 + noise:.1f} %"
    ) in notes
    assert "greedy-soup and naive-ensemble are read off the same trainings." in notes
    assert not any(note.startswith(("wash:", "papa:", "dart:")) for note in table.notes)
    assert r"step 7 \| lower" in table.markdown()


def test_an_average_that_new_statistics_mend_is_not_blamed_on_the_weights(tmp_path):
    write_cell(tmp_path, "naive-ensemble", 0, summary={"average_acc": 15.4, "average_bn_acc": 86.0})
    (table,) = main_tables(frames.load([tmp_path]))
    notes = "\n".join(table.notes)
    assert "brings the average to 86.0 %" in notes
    assert "no basin" not in notes


def test_caption_states_scale_seeds_machine(recorded, tmp_path):
    (table,) = main_tables(frames.load([recorded]))
    caption = " ".join(table.caption)
    for part in (
        "N = 3 members, shared initial weights",
        "8 epochs = 1,496 steps of 64 images",
        "3 seeds (0, 1, 2): mean ± half-width of the 95 % Student-t interval",
        "Test CPU, 2 cores",
        "(all training images)",
        "11 points and all pairs, all 1,000 test images",
    ):
        assert part in caption
    write_cell(tmp_path, "wash", 4, train_limit=5000)
    (table,) = main_tables(frames.load([tmp_path]))
    assert "one seed (4): no interval" in " ".join(table.caption)
    assert "(at most 5,000 training images)" in " ".join(table.caption)
    assert not any("±" in cell.text for row in table.rows for cell in row)


def test_one_thread_is_no_plural(tmp_path):
    write_cell(tmp_path, "wash", 0)
    (path,) = (tmp_path / "trainings").glob("*/environment.json")
    for threads, words in ((1, "1 thread a process"), (2, "2 threads a process")):
        path.write_text(json.dumps(json.loads(path.read_text()) | {"threads": threads}))
        (table,) = main_tables(frames.load([tmp_path]))
        assert words in " ".join(table.caption)


def test_mixed_versions_in_one_table_are_said(tmp_path):
    for seed in range(2):
        write_cell(tmp_path, "wash", seed)
    (other,) = (tmp_path / "trainings").glob("wash-s1-*")
    (other / "environment.json").write_text('{"torch": "2.10.0", "cpu": "Test CPU"}')
    (table,) = main_tables(frames.load([tmp_path]))
    assert any("torch 2.10.0 and 2.9.0" in note for note in table.notes)
    assert not any("CPU Test" in note for note in table.notes)


def test_a_training_that_went_on_elsewhere_names_each_place_once(tmp_path):
    for seed in range(2):
        write_cell(tmp_path, "wash", seed)
    for seed, commit in enumerate(("066e8ee, then 0870acf", "066e8ee, then c29f279")):
        (place,) = (tmp_path / "trainings").glob(f"wash-s{seed}-*")
        (place / "environment.json").write_text(json.dumps({"commit": commit}))
    (table,) = main_tables(frames.load([tmp_path]))
    assert any("commit 066e8ee and 0870acf and c29f279" in note for note in table.notes)


def test_only_failed_cells_still_make_a_report(tmp_path):
    write_cell(tmp_path / "run", "wash", 0, status="failed", reason="out of memory")
    write.write_report([tmp_path / "run"], tmp_path / "report", figures=())
    text = (tmp_path / "report" / "table.md").read_text()
    assert "No cell finished." in text and "out of memory" in text


@given(st.text(max_size=30))
def test_escaped_text_stays_in_its_table_cell(text):
    line = f"| {escape(text)} | x |"
    assert len(line.splitlines()) == 1
    assert len(re.split(r"(?<!\\)(?:\\\\)*\|", line)) == 4


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (0.0147, "0.0147"), (5489.5, "5,490"), (32.84, "32.8"), (math.nan, "–")],
)
def test_amounts_have_three_significant_digits(value, text):
    assert format_sig(value) == text


def test_options_stand_in_the_table_as_they_are_typed(tmp_path):
    write_cell(tmp_path, "wash", 0, options={"p": 0.1, "buffers": False, "include": ["a", "b"]})
    (table,) = main_tables(frames.load([tmp_path]))
    assert any("buffers=false include=a,b p=0.1" in note for note in table.notes)


def test_the_methods_layout_is_by_kind_and_best_first(recorded, tmp_path, capsys):
    out = tmp_path / "out"
    command = ["report", str(recorded), "--figures", "none", "--out", str(out)]
    assert run_command([*command, "--layout", "methods"]) == 0
    text = (out / "methods.md").read_text(encoding="utf-8")
    rules, _, merges = text.partition("**Merge rules**")
    names = [split_row(line)[0] for line in rules.splitlines() if line.startswith("| ")]
    assert names[:2] == ["method", "---"]
    best = sorted(FACTS, key=lambda name: -FACTS[name][1 if name == "naive-ensemble" else 2])
    assert names[2:] == [name for name in best if name != "greedy-soup"]
    assert "| greedy-soup |" in merges and "delivered − naive-ensemble" in merges
    headings = split_row(next(line for line in text.splitlines() if line.startswith("| method")))
    wash = split_row(next(line for line in text.splitlines() if line.startswith("| wash |")))
    entries = dict(zip(headings, wash, strict=True))
    assert entries["vectors sent"] == format_sig(0.0147 * STEPS) == "22.0"
    assert run_command(command) == 0 and not (out / "methods.md").exists()
    for name, accuracy in (("uniform-soup", 12.0), ("ties", 11.0), ("dare", 80.0)):
        for seed in range(3):
            write_cell(tmp_path / "more", name, seed, summary={"average_acc": accuracy})
    assert run_command(["report", str(tmp_path / "more"), "--layout", "methods", *command[2:]]) == 0
    text = (out / "methods.md").read_text(encoding="utf-8")
    assert "Collapsed here, with 11.00 to 12.00 %: uniform-soup, ties." in text
    assert "| dare |" in text and "| ties |" not in text
    assert run_command([*command, "--layout", "method"]) == 2
    assert "did you mean 'methods'" in capsys.readouterr().err
