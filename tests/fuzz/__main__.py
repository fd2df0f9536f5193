"""Try many inputs and write down how they ended."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.fuzz import __doc__ as about_all
from tests.fuzz.attempts import attempt, inputs, make_base, stop_before_training
from tests.fuzz.kinds import KINDS


def main() -> None:
    parser = argparse.ArgumentParser(description=about_all)
    parser.add_argument("--inputs", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--side", type=int, default=os.cpu_count(), help="inputs at a time")
    parser.add_argument("--only", type=int, help="the number of one input")
    parser.add_argument("--out", type=Path, help="file for the result, Markdown")
    given = parser.parse_args()
    began, counts, wrong = time.monotonic(), Counter[str](), []
    with TemporaryDirectory(prefix="fuzz-") as base:
        if given.only is not None:
            make_base(Path(base))
            stop_before_training()
            print(*attempt(given.only, given.seed, Path(base)), sep="\n")
            return
        for number, kind, words, why in inputs(given.inputs, given.seed, Path(base), given.side):
            counts[kind] += 1
            if why:
                wrong.append(kind)
                print(f"{number} {kind} {words!r}: {why}", flush=True)
    text = (
        "# Damaged inputs\n\n`make fuzz` (seed "
        f"{given.seed}): {sum(counts.values()):,} inputs, {len(wrong)} with a fault, "
        f"{(time.monotonic() - began) / 60:.0f} minutes.\n\n| input | tried | with a fault |\n"
        "| --- | ---: | ---: |\n"
    )
    for kind, make in KINDS.items():
        about = (make.__doc__ or "").partition("\n")[0].rstrip(".")
        text += f"| {about} | {counts[kind]:,} | {wrong.count(kind)} |\n"
    print(text)
    if given.out:
        given.out.write_text(text)
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
