"""Put the committed tables into the README, between markers that name their files.

    python scripts/update_readme.py           rewrite README.md
    python scripts/update_readme.py --check   exit 1 if it would change

A marker is ``<!-- begin: FILE -->`` ... ``<!-- end: FILE -->``. Of a report's ``table.md`` the
title and the line of options are left out.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
BLOCK = re.compile(r"(<!-- begin: (\S+) -->\n).*?(<!-- end: \2 -->)", flags=re.DOTALL)


def body(path: Path) -> str:
    """The file's text without headings and without the options' line."""
    lines = path.read_text(encoding="utf-8").splitlines()
    kept = [line for line in lines if not line.startswith(("#", "- Options:"))]
    return "\n".join(kept).strip() + "\n"


def updated(readme: str) -> str:
    return BLOCK.sub(lambda m: m[1] + body(ROOT / m[2]) + m[3], readme)


def main() -> None:
    path = ROOT / "README.md"
    old = path.read_text(encoding="utf-8")
    new = updated(old)
    if "--check" in sys.argv:
        if new != old:
            sys.exit("README.md differs from the committed reports: run scripts/update_readme.py")
    else:
        path.write_text(new, encoding="utf-8")


if __name__ == "__main__":
    main()
