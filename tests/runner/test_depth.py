"""How far a training is from the command line: frames above the loop, and methods constructed."""

from __future__ import annotations

import json
from pathlib import Path

from wash_bench.cli.main import run_command

METHOD = """
import json, sys
from pathlib import Path
import wash_bench
from wash_bench.methods.wash import Wash
OURS, COUNTS = str(Path(wash_bench.__file__).parent), Path(__file__).with_name("counts.json")
made = 0
class Counts(Wash):
    name = "counts"
    def __init__(self, *arguments):
        global made
        made += 1
        super().__init__(*arguments)
    def after_step(self, population, exchange, clock):
        above, frame = [], sys._getframe()
        while frame and frame.f_code.co_qualname != "Loop.epoch":
            frame = frame.f_back
        while frame := frame.f_back:
            if frame.f_code.co_filename.startswith(OURS):
                above.append(frame.f_code.co_qualname)
        COUNTS.write_text(json.dumps({"above": above, "made": made}))
        super().after_step(population, exchange, clock)
    def predictors(self, population, judge):
        counts = json.loads(COUNTS.read_text())
        COUNTS.write_text(json.dumps(counts | {"made": made}))
        return super().predictors(population, judge)
"""


def test_few_frames_stand_above_the_loop_and_a_method_is_constructed_twice(tmp_path: Path) -> None:
    (tmp_path / "counts.py").write_text(METHOD)
    command = ["run", "digits", "--methods", f"{tmp_path / 'counts.py'}:Counts", "--seeds", "0"]
    command += ["--epochs", "1", "--train-limit", "64", "--batch-size", "32", "--jobs", "1"]
    command += ["--barrier-points", "3", "--barrier-images", "20", "--no-report", "--threads", "1"]
    assert run_command([*command, "--out", str(tmp_path / "runs")]) == 0
    counts = json.loads((tmp_path / "counts.json").read_text())
    assert len(counts["above"]) <= 9, counts["above"]
    assert counts["made"] <= 2
