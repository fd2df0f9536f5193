"""GitHub Markdown: text that stands as it is, and the tables of reports and benchmarks."""

import re
from collections.abc import Iterable, Sequence


def escape(text: str) -> str:
    """Text that GitHub Markdown shows as it stands, in a table or outside one."""
    text = " ".join(text.split())
    text = re.sub(r"[\\|*`<>~]", r"\\\g<0>", text)
    # Within a word an underscore is plain, and so is a bracket that no address follows.
    text = re.sub(r"(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])", r"\\_", text)
    return text.replace("](", "]\\(")


def table(
    headings: Sequence[str], rows: Iterable[Sequence[str]], align: str = "", *, padded: bool = False
) -> str:
    """A table, without an end of line after it.

    Args:
        headings: Markdown, as the entries: ``escape`` what is plain text.
        rows: as many entries each as there are headings.
        align: ``l`` or ``r`` for each column; if empty, all but the first stand to the right.
        padded: whether columns are aligned for who reads the text itself.

    Returns:
        The lines: headings, rule, rows.
    """
    align = align or "l".ljust(len(headings), "r")
    if padded:
        from tabulate import tabulate

        sides = ["right" if side == "r" else "left" for side in align]
        return tabulate(list(rows), headings, "pipe", disable_numparse=True, colalign=sides)
    rule = ["---:" if side == "r" else "---" for side in align]
    return "\n".join(f"| {' | '.join(row)} |" for row in (headings, rule, *rows))
