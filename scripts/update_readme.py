"""Put committed tables and figures into README and docs, between markers that name their files.

    python scripts/update_readme.py           rewrite the pages that have markers
    python scripts/update_readme.py --check   exit 1 if one would change

A marker is ``<!-- begin: FILE -->`` ... ``<!-- end: FILE -->``. Of a report's ``table.md`` the
title and the line of options are left out. A ``.png`` becomes a picture whose text is what it
shows and the title of the table that was made with it: of the same name, or ``table.md`` beside it.
``methods/`` becomes the list of all methods, by kind, ``uses`` the tables of what they are for,
``settings`` those of all settings, ``faults`` those of what the tests try, and ``demo`` the demo's
table in five columns.
"""

from __future__ import annotations

import os
import re
import sys
import textwrap
from pathlib import Path

import faults_table
import settings_table

from wash_bench.core.method import KINDS
from wash_bench.plugins.registry import describe, find_method, method_names
from wash_bench.report.figures.catalogue import FIGURES
from wash_bench.report.tables import markdown

ROOT = Path(__file__).parents[1]
BLOCK = re.compile(r"(<!-- begin: (\S+) -->\n).*?(<!-- end: \2 -->)", flags=re.DOTALL)


PAGES = (
    "README.md",
    "docs/choose.md",
    "docs/demo.md",
    "docs/methods.md",
    "docs/findings.md",
    "docs/settings.md",
    "docs/faults.md",
)


def body(path: Path, page: Path) -> str:
    """What stands between the markers: a table's text, a picture, the methods' names, settings."""
    of_code = {
        "methods": methods,
        "uses": uses,
        "settings": settings_table.tables,
        "faults": faults_table.tables,
        "demo": demo,
    }
    if make := of_code.get(path.relative_to(ROOT).as_posix()):
        return make()
    if path.suffix == ".png":
        return picture(path, page)
    lines = path.read_text(encoding="utf-8").splitlines()
    kept = [line for line in lines if not line.startswith(("#", "- Options:"))]
    return "\n".join(kept).strip() + "\n"


def picture(path: Path, page: Path) -> str:
    if not path.exists():
        sys.exit(f"{page.name} shows {path.relative_to(ROOT)}, which is not there")
    table = path.with_suffix(".md")
    table = table if table.exists() else path.with_name("table.md")
    title = table.read_text(encoding="utf-8").partition("\n")[0].lstrip("# ")
    target = Path(os.path.relpath(path, page.parent)).as_posix()
    about = FIGURES[path.stem].text if path.stem in FIGURES else path.stem
    return f"![{about}: {title}]({target})\n"


def demo() -> str:
    """The demo's table with the columns that the README shows."""
    text = (ROOT / "results/demo/table.md").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if line.startswith("|")]
    head, _, *rows = [re.split(r"(?<!\\)\|", line)[1:-1] for line in lines]
    headings = ["method", "delivered", "delivered, NLL", "averaged", "MB sent"]
    columns = [[cell.strip() for cell in head].index(name) for name in headings]
    cells = [[row[column].strip() for column in columns] for row in rows if len(row) == len(head)]
    return markdown.table(headings, cells, "l" + "r" * (len(headings) - 1)) + "\n"


def ours(kind: str) -> list[str]:
    """Names of the methods of this package."""
    return [name for name in method_names(kind) if find_method(name).source_hash is None]


def uses() -> str:
    """When each method is of use, by kind: a row for what it is for, sends and needs."""
    parts = []
    for kind, heading in KINDS.items():
        rows = []
        for name in ours(kind):
            words = describe(find_method(name))
            texts = [words.when, words.sends, words.needs or "–"]
            if kind == "merge":  # which send nothing
                del texts[1]
            module = words.target.partition(":")[0].rpartition(".")[2]
            rows.append([f"[`{name}`](../methods/{module}.py)", *map(markdown.escape, texts)])
        head = ["method", "when", *(["sends"] if kind != "merge" else []), "needs"]
        table = markdown.table(head, rows, "l" * len(head))
        parts += [f"**{heading.capitalize()}**", "", table, ""]
    return "\n".join(parts)


def methods() -> str:
    """A line of names for each kind."""
    around = {
        "trajectory": ", around any training rule (`wash+ema`) or alone",
        "merge": ", of any trained population (`wash+fisher`) or, alone, of independent members",
        "exchange": ", around any training rule",
    }
    lines = []
    for kind, heading in KINDS.items():
        names = [f"`{name}`" for name in ours(kind)]
        text = f"- **{heading}**{around.get(kind, '')}: {', '.join(names)}"
        lines.append(textwrap.fill(text, 100, subsequent_indent="  ", break_on_hyphens=False))
    return ";\n".join(lines) + ".\n"


def updated(text: str, page: Path) -> str:
    return BLOCK.sub(lambda m: m[1] + body(ROOT / m[2], page) + m[3], text)


def main() -> None:
    for path in (ROOT / name for name in PAGES):
        old = path.read_text(encoding="utf-8")
        new = updated(old, path)
        if "--check" in sys.argv:
            if new != old:
                sys.exit(f"{path.name} differs from reports or code: run scripts/update_readme.py")
        else:
            path.write_text(new, encoding="utf-8")


if __name__ == "__main__":
    main()
