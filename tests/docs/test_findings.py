"""docs/findings.md: every sentence under a heading points at a table that holds its numbers."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / "docs/findings.md"
LINK = re.compile(r"\[[^\]]*\]\((\.\./results/[^)]*)\)")
NUMBER = re.compile(r"(?<![\w.])[−-]?\d[\d,]*\.\d+(?![\w.])|(?<![\w.])\d{1,3}(?:,\d{3})+(?![\w.])")


def answers() -> list[tuple[str, list[Path]]]:
    """The sentences of all sections, and the tables they name."""
    found = []
    for section in re.split(r"^###? ", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]:
        _, _, text = section.partition("\n")
        text = re.sub(r"<!-- begin: (\S+) -->.*?<!-- end: \1 -->", "", text, flags=re.DOTALL)
        for paragraph in filter(str.strip, text.split("\n\n")):
            flat = " ".join(re.sub(r"^- ", "", paragraph.strip()).split())
            for sentence in re.split(r"(?<=[.?!)])\s+(?=[A-Z`])", flat):
                tables = [(PAGE.parent / target).resolve() for target in LINK.findall(sentence)]
                found.append((sentence, tables))
    return found


ANSWERS = answers()


def test_there_are_answers() -> None:
    assert len(ANSWERS) > 15


@pytest.mark.parametrize(("sentence", "tables"), ANSWERS, ids=[text[:40] for text, _ in ANSWERS])
def test_a_sentence_points_at_a_table_that_holds_its_numbers(
    sentence: str, tables: list[Path]
) -> None:
    assert tables, f"without a table: {sentence}"
    text = "".join(t.read_text(encoding="utf-8") for t in tables if t.suffix != ".csv")
    exact = [
        float(n)
        for t in tables
        if t.suffix == ".csv"
        for n in re.findall(r"(?<=[,\n])-?\d+\.\d+(?:e-?\d+)?(?=[,\n])", t.read_text())
    ]

    def there(number: str) -> bool:
        """As it stands in a written table, or a value of a CSV file, rounded."""
        digits = len(number.partition(".")[2])
        return number in text or any(f"{value:,.{digits}f}" == number for value in exact)

    missing = [n for n in NUMBER.findall(LINK.sub("", sentence)) if not there(n)]
    assert not missing, f"{missing} of {sentence!r} not in {[t.name for t in tables]}"
