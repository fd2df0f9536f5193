"""table.tex: compiled where there is a TeX, and its structure read where there is none."""

from __future__ import annotations

import re
import shutil
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.records import write_cell
from wash_bench.report.read import frames
from wash_bench.report.style import PAPERS, made_for
from wash_bench.report.tables.latex import blocks, escape, latex
from wash_bench.report.tables.main_table import main_tables

TEX = shutil.which("tectonic") or shutil.which("pdflatex")


@pytest.fixture
def tied(tmp_path):
    """A best value, one that is not significantly different, and a third."""
    values = {"wash": (90.0, 91.0, 92.0), "papa": (90.2, 90.8, 91.7), "da_rt": (80.0, 81.05, 82.0)}
    for method, accuracies in values.items():
        for seed, accuracy in enumerate(accuracies):
            write_cell(tmp_path, method, seed, summary={"average_acc": accuracy})
    reason = r"100 % of {it} ~ \input{x} $y$ #1 a_b ^ & <c> | --lr [d] *"
    write_cell(tmp_path, "da_rt", 3, status="failed", reason=reason)
    return frames.load([tmp_path])


def parts_of(text: str) -> list[tuple[str, list[list[str]]]]:
    """The heading line and the rows of each tabular."""
    parts = []
    for body in re.findall(r"\\toprule\n(.*?)\\bottomrule", text, flags=re.DOTALL):
        heading, _, rows = body.partition("\\midrule\n")
        lines = [line.strip() for line in rows.splitlines() if line.strip()]
        assert all(line.endswith(r"\\") for line in lines)
        cells = [re.split(r"(?<!\\)&", line.removesuffix(r"\\")) for line in lines]
        parts.append((heading, [[cell.strip() for cell in row] for row in cells]))
    return parts


def test_the_table_is_booktabs_with_equal_rows_and_letters(tied):
    text = latex(tied)
    (table,) = main_tables(tied)
    parts = parts_of(text)
    assert len(parts) == len(blocks(table)) > 1
    rows: dict[str, list[str]] = {}
    for (heading, found), block in zip(parts, blocks(table), strict=True):
        assert [row[0] for row in found] == ["wash", "papa", r"da\_rt"]
        assert {len(row) for row in found} == {len(block) + 1} == {heading.count("&") + 1}
        assert rf"{{@{{}}l{'r' * len(block)}@{{}}}}" in text
        for row in found:
            rows.setdefault(row[0], [row[0]]).extend(row[1:])
    assert {len(row) for row in rows.values()} == {len(table.columns)}  # no column twice, none lost
    place = table.columns.index("delivered")
    entry = r"91\.00 \$\\pm\$ [\d.]+\\,\\textsuperscript\{a\}"
    assert re.fullmatch(entry, rows["wash"][place])
    assert rows["papa"][place].endswith(r"\,\textsuperscript{a}")
    assert rows[r"da\_rt"][place].endswith(r"\,\textsuperscript{b}")
    assert r"\caption{wash vs papa vs da\_rt on fashion-mini (test\_resnet, N = 3)" in text
    assert r"lower" not in text and r"Failed: da\_rt, seed 3: 100 \% of \{it\}" in text
    assert "resizebox" not in text  # the type keeps its size


@pytest.mark.parametrize("paper", PAPERS)
def test_every_column_stands_in_one_block_and_narrow_papers_have_more(tied, paper):
    with made_for(paper):
        (table,) = main_tables(tied)
        found = blocks(table)
        assert rf"\begin{{{PAPERS[paper].table}}}" in latex(tied)
    assert [place for block in found for place in block] == list(range(1, len(table.columns)))
    with made_for("ieee"):
        assert len(blocks(table)) <= len(found)


def test_braces_and_environments_close(tied):
    text = latex(tied)
    plain = text.replace(r"\{", "").replace(r"\}", "").replace(r"\%", "")
    plain = re.sub(r"(?m)%.*$", "", plain)
    depth = 0
    for char in plain:
        depth += {"{": 1, "}": -1}.get(char, 0)
        assert depth >= 0
    assert depth == 0
    stack = []
    for kind, name in re.findall(r"\\(begin|end)\{([a-z*]+)\}", text):
        if kind == "begin":
            stack.append(name)
        else:
            assert stack.pop() == name
    assert stack == []


ALLOWED = re.compile(
    r"\\(textbackslash|textasciitilde|textasciicircum|textless|textgreater|textbar"
    r"|textasciigrave|dots|dag)\{\}|\\[&%$#_{}]|\$(\\(pm|times|alpha|lambda)|-)\$|\{[][*]?\}"
    r"|[^\\&%$#_{}~^<>|\[\]*\"`]"
)


@pytest.mark.fault("Names and texts", "commands in names, in LaTeX", "shown as text")
@given(st.text(max_size=30))
def test_no_name_is_a_command(text):
    escaped = escape(text)
    assert ALLOWED.sub("", escaped) == ""
    assert len(escaped.splitlines()) <= 1
    assert "--" not in escaped or "–" in text


def test_only_failed_cells_and_warnings(tmp_path):
    write_cell(tmp_path, "wash", 0, status="failed", reason="out of memory")
    (tmp_path / "cells" / "x%y.json").write_text("{")
    text = latex(frames.load([tmp_path]))
    assert "No cell finished." in text and "out of memory" in text
    assert "tabular" not in text
    assert all(line.startswith("%") for line in text.splitlines() if "x\\%y" in line)


# The class's options and text width, of which the style's own files are.
CLASSES = {
    "plain": ("10pt", "345pt"),
    "neurips": ("10pt", "397pt"),
    "icml": ("10pt,twocolumn", "487pt"),
    "ieee": ("10pt,twocolumn", "516pt"),
}


@pytest.mark.skipif(not TEX, reason="no tectonic or pdflatex")
@pytest.mark.parametrize("paper", PAPERS)
def test_it_compiles_in_small_but_readable_type_and_fits_the_text(tied, tmp_path, paper):
    write_cell(tmp_path, "dart", 0, options={"branches": "auto-augment,cutout,cutmix", "every": 1})
    write_cell(tmp_path, "dart", 0, options={"branches": "plain", "every": 3})
    options, width = CLASSES[paper]
    with made_for(paper):
        (tmp_path / "table.tex").write_text(latex(frames.load([tmp_path])), encoding="utf-8")
    (tmp_path / "paper.tex").write_text(
        f"\\documentclass[{options}]{{article}}\\usepackage[textwidth={width}]{{geometry}}"
        "\\usepackage{booktabs,array}\\pdfcompresslevel=0\\pdfobjcompresslevel=0"
        "\\begin{document}\\input{table}\\end{document}\n"
    )
    arguments = [] if "tectonic" in TEX else ["-interaction=nonstopmode", "-halt-on-error"]
    done = subprocess.run(
        [TEX, *arguments, "paper.tex"], cwd=tmp_path, check=True, capture_output=True, text=True
    )
    assert (tmp_path / "paper.pdf").stat().st_size > 1000
    assert "Overfull" not in done.stdout
    written = (tmp_path / "paper.pdf").read_bytes()
    fonts = re.findall(rb"/FontName\s*/[A-Z]+\+CM(?:R|BX)(\d+)", written)
    assert fonts and min(map(int, fonts)) >= 7
