"""README and docs: short sentences in the field's words; code, tables, generated parts apart."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = ["README.md", *sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))]
LIMITS = {"README.md": 15}  # words per sentence, on average
LIMIT = 20
GENERATED = r"<!-- begin: (\S+) -->.*?<!-- end: \1 -->"
SHORT = r"\b(?:e\.g|i\.e|et al|vs|cf|Eq|Fig|No|approx)\."
FORBIDDEN = {
    r"\btold (?:apart )?from\b|\btold apart\b|\bseeds do not tell\b": "significantly different",
    r"\ban? (?:row|line|file|figure|run|training|column) an?\b": "one row per cell",
    r"\bthat of\b|\bthose of\b|\btheirs\b": "repeat the noun",
    r"\bthe same(?=\s*(?:[.,;:)]|$))": "'the same' needs a noun",
    r"\b(?:stands?|stood) at\b": "is",
    r"\b(?:comes?|came) to\b": "is, reaches",
    r"\bbeside\b": "vs., next to, with",
    r"\b(?:goes|go|going|gone|went) on\b": "resumes, continues",
    r"\bgreatest\b": "highest, largest",
    r"\bin mean\b": "on average",
}


def paragraphs(text: str) -> list[str]:
    """Return the prose of a page, one text per paragraph or item of a list."""
    text = re.sub(GENERATED, "", text, flags=re.DOTALL)
    text = re.sub(r"^( *)(```|~~~).*?^\1\2", "", text, flags=re.DOTALL | re.MULTILINE)
    text = re.sub(r"\$\$.*?\$\$|<!--.*?-->", "", text, flags=re.DOTALL)
    text = re.sub(r"^ *(?:\||#|:::|!!! |<).*$", "", text, flags=re.MULTILINE)
    text = re.sub(r"^ *(?:[-*]|\d+\.) +", "\n", text, flags=re.MULTILINE)
    text = re.sub(r"\[!\[[^\]]*\]\([^)]*\)\]\([^)]*\)|!\[[^\]]*\]\([^)]*\)", "", text)
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", text)
    text = re.sub(r"``[^`]*``|`[^`]*`|\$[^$\n]*\$", "code", text)
    return [" ".join(part.split()) for part in re.split(r"\n\s*\n", text) if part.strip()]


def sentences(paragraph: str) -> list[str]:
    whole = re.sub(SHORT, lambda found: found[0].replace(".", ""), paragraph)
    end = r"(?<=[.?!])[)*\"]*\s+(?=[*\"(]*[A-Z0-9]|code)"
    return [part for part in re.split(end, whole) if part]


def words(sentence: str) -> int:
    return len(re.findall(r"[^\W_][^\s]*", sentence))


def read(page: str) -> list[str]:
    return paragraphs((ROOT / page).read_text(encoding="utf-8"))


def test_it_counts_prose_alone() -> None:
    page = "# A head\n\nOne two. Three `a b c` four, e.g. five.\n\n| a | b |\n|---|---|\n\n"
    page += "- Six\n  seven.\n```bash\nrun it\n```\n<!-- begin: x -->\nno\n<!-- end: x -->\n"
    found = [sentence for part in paragraphs(page) for sentence in sentences(part)]
    assert [words(sentence) for sentence in found] == [2, 5, 2]


@pytest.mark.parametrize("page", PAGES)
def test_sentences_are_short(page: str) -> None:
    lengths = {sentence: words(sentence) for part in read(page) for sentence in sentences(part)}
    if not lengths:
        return
    average, limit = sum(lengths.values()) / len(lengths), LIMITS.get(page, LIMIT)
    longest = sorted(lengths, key=lengths.__getitem__, reverse=True)[:3]
    assert average <= limit, (
        f"{page}: {average:.1f} words per sentence, allowed are {limit}. Split the longest:\n"
        + "\n".join(f"  {lengths[text]} words: {text}" for text in longest)
    )


@pytest.mark.parametrize("page", PAGES)
def test_words_are_the_fields(page: str) -> None:
    wrong = [
        f"  '{found[0]}' ({instead}): {sentence}"
        for part in read(page)
        for sentence in sentences(part)
        for phrase, instead in FORBIDDEN.items()
        for found in re.finditer(phrase, sentence, flags=re.IGNORECASE)
    ]
    assert not wrong, f"{page}: say it with another word:\n" + "\n".join(wrong)
