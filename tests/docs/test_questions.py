"""What users ask is answered within one click of the README."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
LINKS = re.findall(r"\[([^\]]*)\]\(([^)\s]+)\)", README)


def slug(heading: str) -> str:
    """Return the anchor that GitHub and mkdocs make of a heading."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


def section(target: str) -> str:
    """Return the text that a link leads to: the section of its anchor, or the whole page."""
    name, _, anchor = target.partition("#")
    text = (ROOT / name).read_text(encoding="utf-8")
    if not anchor:
        return text
    for part in re.split(r"^#+ ", text, flags=re.MULTILINE):
        heading, _, rest = part.partition("\n")
        if slug(heading) == anchor:
            return rest
    raise AssertionError(f"README links to {target}, which has no such section")


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("How do I merge", r"wash-bench merge \S+"),
        ("How do I cite", r"CITATION\.cff"),
        ("How many seeds", r"(?i)\bthree\b.*\bminimum\b"),
        ("run on Slurm", r"sbatch \S+\.sh"),
        ("Is my average broken", r"(?i)barrier"),
    ],
)
def test_a_question_is_answered_one_click_away(question: str, answer: str) -> None:
    targets = [target for text, target in LINKS if question.lower() in text.lower()]
    assert targets, f"README has no link whose text asks '{question}'"
    text = section(targets[0])
    assert re.search(answer, text), f"{targets[0]} does not answer '{question}' ({answer})"


def test_anchors_lead_to_sections() -> None:
    for _, target in LINKS:
        if "#" in target and not target.startswith("http"):
            assert section(target).strip(), target


def test_the_first_command_is_on_the_first_screen() -> None:
    lines = README.splitlines()
    (first, *_) = (i for i, line in enumerate(lines, 1) if line.startswith("make demo"))
    assert first < 20


def test_the_idea_is_drawn_by_its_script(monkeypatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "scripts")
    import idea_figure

    assert idea_figure.OUT.read_text(encoding="utf-8") == idea_figure.figure()
