"""One input: what is given to a command, and the changes that it may take."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

# What stands for a value, a name or a key: bounds, other types, markup, controls, paths, and more.
ODD: tuple[Any, ...] = (
    *(0, -1, 1, 2**31, 2**63, 10**400, 1e308, -0.0, 0.5, 1e-320, float("nan"), float("inf")),
    *("", " ", "0", "nan", "-inf", "1e999", "True", "null", "None", "NA", "#", "=1+1", "a" * 3000),
    *(
        "<script>alert(1)</script>",
        "[bold]x[/]",
        "$x^2$",
        r"\input{/etc/passwd}",
        "|",
        "%s{}",
        "--",
    ),
    *("\x1b[31m", "\x00", "\r\n", "\u202e", "é", "e\u0301", "\ud800", "🧪", "٣", "\ufeff"),
    *("../../outside", "/tmp", ".", "..", "~", "C:\\x", "file:///etc/passwd", "a/b"),
    *(None, True, False, [], {}, [[]], [1, "a", None], {"a": {}}, {"schema": 99}),
)


class Case:
    """One input: a folder with what is given, one that may be written, and what was drawn.

    Attributes:
        draw: the source of all that is random.
        given: what the command reads.
        out: what it may write.
        scores: what ``eval --json`` must print if it ends with 0; empty where nothing is known.
    """

    def __init__(self, number: int, seed: int, base: Path, work: Path) -> None:
        self.draw = random.Random(f"{seed}/{number}")
        self.base = base
        self.given, self.out = work / "given", work / "out"
        self.scores: dict[str, float] = {}
        self.given.mkdir()

    def odd(self) -> Any:
        return self.draw.choice(ODD)

    def text(self) -> str:
        """An odd value as one word of a command line."""
        value = self.odd()
        word = (
            value if isinstance(value, str) else str(value) if value != 10**400 else "1" + "0" * 400
        )
        return word.replace("\x00", "")  # which no system passes on

    def bytes(self, data: bytes) -> bytes:
        """Some bytes changed, cut, doubled or put in."""
        changed = bytearray(data)
        for _ in range(self.draw.choice((1, 1, 2, 5, 20))):
            at = self.draw.randrange(len(changed) + 1)
            match self.draw.randrange(5):
                case 0 if changed:
                    changed[at % len(changed)] = self.draw.randrange(256)
                case 1:
                    del changed[at : at + self.draw.randrange(1, 40)]
                case 2:
                    changed[at:at] = str(self.odd())[:100].encode("utf-8", "surrogatepass")
                case 3:
                    end = at + self.draw.randrange(1, 200)
                    changed[at:at] = changed[at:end]
                case 4:
                    del changed[at:]
        return bytes(changed)

    def json(self, data: Any) -> Any:
        """One place of a JSON value changed."""
        places = list(_places(data))
        if not places:
            return self.odd()
        holder, key = self.draw.choice(places)
        if isinstance(holder, dict) and self.draw.random() < 0.2:
            del holder[key]
        elif isinstance(holder, dict) and self.draw.random() < 0.1:
            holder[str(self.odd())[:200]] = holder.pop(key)
        else:
            holder[key] = self.odd()
        return data

    def damage(self, path: Path, pipes: bool = True) -> None:
        """Change a file, or what it is; into no pipe where a user may name one, as <(command)."""
        try:
            self._damage(path, pipes)
        except (ValueError, IndexError):  # damaged before, and of no form any more
            path.write_bytes(self.bytes(path.read_bytes()))

    def _damage(self, path: Path, pipes: bool) -> None:
        match self.draw.randrange(12):
            case 0:
                path.unlink()
            case 1:
                path.unlink()
                path.mkdir()
            case 2:
                path.unlink()
                path.symlink_to(self.draw.choice(("/etc/hostname", "missing", ".")))
            case 3 if pipes:
                path.unlink()
                os.mkfifo(path)
            case 4 | 5 | 6:
                path.write_bytes(self.bytes(path.read_bytes()))
            case _ if path.suffix == ".json":
                text = json.dumps(self.json(json.loads(path.read_text())))
                path.write_text(text, encoding="utf-8", errors="surrogatepass")
            case _ if path.suffix == ".jsonl":
                lines = path.read_text().splitlines()
                at = self.draw.randrange(len(lines))
                lines[at] = json.dumps(self.json(json.loads(lines[at])))
                path.write_text("\n".join(lines) + "\n", errors="surrogatepass")
            case _:
                rows = [line.split(",") for line in path.read_text().splitlines()]
                row = self.draw.choice(rows)
                row[self.draw.randrange(len(row))] = str(self.odd())[:300]
                text = "\n".join(",".join(row) for row in rows)
                path.write_text(text + "\n", encoding="utf-8", errors="surrogatepass")


def _places(data: Any) -> Iterator[tuple[Any, Any]]:
    """Every key of every object and list inside."""
    items = data.items() if isinstance(data, dict) else enumerate(data)
    for key, value in list(items):
        yield data, key
        if isinstance(value, dict | list):
            yield from _places(value)
