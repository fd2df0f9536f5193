"""``table.tex``: the main tables as LaTeX, to be read into a paper."""

from __future__ import annotations

import re
import textwrap
from typing import TYPE_CHECKING

from wash_bench.report import style
from wash_bench.report.tables.main_table import main_tables

if TYPE_CHECKING:
    from jinja2 import Environment

    from wash_bench.report.read.frames import Records
    from wash_bench.report.tables.table import Table, TableCell

SIZE = 8.0  # points of the type, \footnotesize of a paper in 10 points
SEPARATION = 3.0  # points on each side of a column
# Widths of letters in em, those of bold type at 8 points.
_EM = {"m": 0.95, "w": 0.85, "%": 0.95, "±": 0.9, "−": 0.9, "+": 0.9, "×": 0.9}
_EM |= dict.fromkeys("iljt.,:;'|!", 0.36) | dict.fromkeys(" []()/-", 0.45)

# Brackets and stars would be taken for an argument of the line break before them.
_SPECIAL = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': "''",
    "`": r"\textasciigrave{}",
    "[": "{[}",
    "]": "{]}",
    "*": "{*}",
    "±": r"$\pm$",
    "−": "$-$",
    "×": r"$\times$",
    "–": "--",
    "…": r"\dots{}",
    "α": r"$\alpha$",
    "λ": r"$\lambda$",
}
_TABLE = str.maketrans(_SPECIAL)


def latex(records: Records) -> str:
    """The text of table.tex: a table for each experiment, with its caption and notes."""
    # It needs the package booktabs. Letters outside the tables' own signs stay as they are; for
    # some of them pdfLaTeX has no font and LuaLaTeX or XeLaTeX has.
    template = environment().get_template("table.tex.j2")
    tables = [
        {
            "title": escape(table.title),
            "label": "tab:" + re.sub(r"[^A-Za-z0-9.-]+", "-", table.experiment_id),
            "notes": [escape(text) for text in (*table.caption, *table.notes)],
            "tabulars": [_tabular(table, block) for block in blocks(table)] if table.rows else [],
        }
        for table in main_tables(records)
    ]
    warnings = [escape(text) for text in records.warnings]
    return template.render(tables=tables, warnings=warnings, environment=style.paper().table)


def escape(text: str) -> str:
    """Text that LaTeX prints as it stands, on one line."""
    text = "".join(char if char.isprintable() else " " for char in text)
    # Two hyphens, as before an option's name, would become a dash.
    text = re.sub("-(?=-)", "-\0", " ".join(text.split()))
    return text.translate(_TABLE).replace("\0", "{}")


def blocks(table: Table) -> list[list[int]]:
    """The columns in groups that fit beside the first one into the text's width."""
    room = style.paper().table_width - _first_width(table)
    found: list[list[int]] = []
    left = 0.0
    for place in range(1, len(table.columns)):
        lines = [*_heading(table, place), *(row[place].plain() for row in table.rows)]
        width = max(map(_width, lines)) + 2 * SEPARATION
        if not found or width > left:
            found.append([])
            left = room
        found[-1].append(place)
        left -= width
    return found


def _first_width(table: Table) -> float:
    """Of the column of methods: longer names are broken at two fifths of the text."""
    return min(_longest(table), 0.4 * style.paper().table_width)


def _longest(table: Table) -> float:
    return max(_width(row[0].text) for row in table.rows)


def _width(text: str) -> float:
    """About how wide a text is in points, at ``SIZE`` in Computer Modern, not narrower, bold."""
    return SIZE * sum(_EM.get(char, 0.62) for char in text)


def _heading(table: Table, place: int) -> list[str]:
    """A heading in lines that are no longer than the entries, or ten letters, or one word."""
    longest = max(len(row[place].plain()) for row in table.rows)
    return textwrap.wrap(table.columns[place], max(10, longest), break_long_words=False)


def _stacked(lines: list[str]) -> str:
    broken = r"\\".join(map(escape, lines))
    return broken if len(lines) == 1 else rf"\shortstack[r]{{{broken}}}"


def _entry(cell: TableCell) -> str:
    text = escape(cell.text)
    text = rf"\textbf{{{text}}}" if cell.bold else text
    return text + (rf"\,\textsuperscript{{{escape(cell.mark)}}}" if cell.mark else "")


def _tabular(table: Table, block: list[int]) -> str:
    """Some columns of a table, led by the first one."""
    headings = [escape(table.columns[0])]
    headings += [_stacked(_heading(table, place)) for place in block]
    lines = [" & ".join(headings) + r" \\"]
    for row in table.rows:
        lines.append(" & ".join([escape(row[0].text), *(_entry(row[at]) for at in block)]) + r" \\")
    width = _first_width(table)
    first = "l" if _longest(table) <= width else rf">{{\raggedright}}p{{{width:.0f}pt}}"
    return "\n".join(
        [
            rf"\begin{{tabular}}{{@{{}}{first}{'r' * len(block)}@{{}}}}",
            r"\toprule",
            lines[0],
            r"\midrule",
            *lines[1:],
            r"\bottomrule",
            r"\end{tabular}",
        ]
    )


def environment() -> Environment:
    """Templates of this package; those of HTML escape what is put into them."""
    from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

    return Environment(
        loader=PackageLoader("wash_bench.report", "templates"),
        autoescape=select_autoescape(("html", "html.j2")),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
