"""``table.tex``: the main tables as LaTeX, to be read into a paper."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from wash_bench.report.grid import DAGGER
from wash_bench.report.main_table import main_tables
from wash_bench.report.template import environment

if TYPE_CHECKING:
    from wash_bench.report.frames import Records
    from wash_bench.report.grid import Table

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
    DAGGER: r"\dag{}",
    "α": r"$\alpha$",
    "λ": r"$\lambda$",
}
_TABLE = str.maketrans(_SPECIAL)


def latex(records: Records) -> str:
    """The text of table.tex: a ``table*`` for each experiment, with its caption and notes."""
    # It needs the packages booktabs and graphicx. Letters outside the tables' own signs stay as
    # they are; for some of them pdfLaTeX has no font and LuaLaTeX or XeLaTeX has.
    template = environment().get_template("table.tex.j2")
    tables = [
        {
            "title": escape(table.title),
            "label": "tab:" + re.sub(r"[^A-Za-z0-9.-]+", "-", table.experiment_id),
            "notes": [escape(text) for text in (*table.caption, *table.notes)],
            "tabular": _tabular(table) if table.rows else "",
        }
        for table in main_tables(records)
    ]
    return template.render(tables=tables, warnings=[escape(text) for text in records.warnings])


def escape(text: str) -> str:
    """Text that LaTeX prints as it stands, on one line."""
    text = "".join(char if char.isprintable() else " " for char in text)
    # Two hyphens, as before an option's name, would become a dash.
    text = re.sub("-(?=-)", "-\0", " ".join(text.split()))
    return text.translate(_TABLE).replace("\0", "{}")


def _tabular(table: Table) -> str:
    import pandas as pd

    entries = [
        [escape(cell.text) + (r"\,\dag{}" if cell.tied else "") for cell in row]
        for row in table.rows
    ]
    bold = [["textbf:--rwrap;" if cell.best else "" for cell in row] for row in table.rows]
    frame = pd.DataFrame(entries, columns=[escape(name) for name in table.columns])
    frame.columns = _unequal(list(frame.columns))
    styler = frame.style.hide(axis="index")
    styler = styler.apply(lambda _: pd.DataFrame(bold, columns=frame.columns), axis=None)
    return styler.to_latex(hrules=True, column_format="l" + "r" * (len(frame.columns) - 1)).strip()


def _unequal(names: list[str]) -> list[str]:
    """Headings made different by empty groups: the styler wants them so."""
    seen: dict[str, int] = {}
    result = []
    for name in names:
        seen[name] = seen.get(name, -1) + 1
        result.append(name + "{}" * seen[name])
    return result
