"""docs/findings.md: every row and sentence names a file that holds its numbers."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / "docs/findings.md"
LINK = re.compile(r"\[[^\]]*\]\(((?:\.\./|[a-z-]+\.md)[^)#]*)[^)]*\)")
NUMBER = re.compile(r"(?<![\w.])[−-]?\d[\d,]*\.\d+(?![\w.])|(?<![\w.])\d{1,3}(?:,\d{3})+(?![\w.])")


def answers() -> list[tuple[str, list[Path]]]:
    """The rows of the table and the sentences below it, with the files that they name."""
    page = PAGE.read_text(encoding="utf-8")
    rows = re.findall(r"^\|(?! question|---)(.*)\|$", page, flags=re.MULTILINE)
    found = [(row, LINK.findall(row)) for row in rows]
    for section in re.split(r"^### ", page, flags=re.MULTILINE)[1:]:
        _, _, text = section.partition("\n")
        text = re.sub(r"<!-- begin: (\S+) -->.*?<!-- end: \1 -->", "", text, flags=re.DOTALL)
        for paragraph in filter(str.strip, text.split("\n\n")):
            flat = " ".join(re.sub(r"^- ", "", paragraph.strip()).split())
            for sentence in re.split(r"(?<=[.?!)])\s+(?=[A-Z`])", flat):
                found.append((sentence, LINK.findall(sentence)))
    return [(text, [(PAGE.parent / name).resolve() for name in names]) for text, names in found]


ANSWERS = answers()


def test_there_are_answers() -> None:
    assert len(ANSWERS) > 15


@pytest.mark.parametrize(("text", "files"), ANSWERS, ids=[text[:40] for text, _ in ANSWERS])
def test_a_number_is_in_a_file_that_is_named(text: str, files: list[Path]) -> None:
    assert files, f"names no file: {text}"
    written = "".join(file.read_text(encoding="utf-8") for file in files if file.suffix != ".csv")
    exact = [
        float(number)
        for file in files
        if file.suffix == ".csv"
        for number in re.findall(r"(?<=[,\n])-?\d+\.\d+(?:e-?\d+)?(?=[,\n])", file.read_text())
    ]

    def there(number: str) -> bool:
        """As it stands in a written table, or a value of a CSV file, rounded."""
        digits = len(number.partition(".")[2])
        return number in written or any(f"{value:,.{digits}f}" == number for value in exact)

    missing = [number for number in NUMBER.findall(LINK.sub("", text)) if not there(number)]
    assert not missing, f"{missing} of {text!r} not in {[file.name for file in files]}"
