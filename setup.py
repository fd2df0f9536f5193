"""The README as the package index shows it: its links lead to the repository."""

import re
import tomllib
from pathlib import Path

from setuptools import setup

ROOT = Path(__file__).parent
URLS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["urls"]


def absolute(link: re.Match[str]) -> str:
    """A link or a picture of the README with its whole address."""
    picture, text, target = link.groups()
    return f"{picture}[{text}]({URLS['Homepage']}/{'raw' if picture else 'blob'}/main/{target})"


readme = (ROOT / "README.md").read_text(encoding="utf-8")
setup(
    long_description=re.sub(r"(!?)\[([^\]]*)\]\((?!https?:|#)([^)]+)\)", absolute, readme),
    long_description_content_type="text/markdown",
)
