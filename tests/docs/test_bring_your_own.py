"""The page on own loops, networks and data: its blocks are files that run."""

from __future__ import annotations

import re
import runpy
import shlex
from pathlib import Path

import pytest

from tests.support.command import command

PAGE = Path(__file__).parents[2] / "docs" / "bring-your-own.md"
SHORT = ["--population=2", "--threads=1", "--device=cpu", "--barrier-points=3", "--jobs=1"]
SHORT += ["--barrier-images=20", "--bn-images=20", "--barrier-bn-images=20", "--epochs=1"]


@pytest.mark.slow
def test_the_blocks_of_the_page_run(tmp_path, monkeypatch, capsys) -> None:
    text = PAGE.read_text(encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    for name, code in re.findall(r"```python\n# (\S+)\n(.*?)```", text, flags=re.DOTALL):
        Path(name).write_text(code)
    assert {path.name for path in tmp_path.iterdir()} == {"loop.py", "net.py", "data.py"}
    runpy.run_path("loop.py", run_name="__main__")
    assert "bytes per member" in capsys.readouterr().out
    blocks = re.findall(r"```bash\n(.*?)```", text, flags=re.DOTALL)
    assert len(blocks) == 2
    for block in blocks:
        program, *words = shlex.split(block.replace("\\\n", " "))
        assert program == "wash-bench"
        short = [word for word in SHORT if word.split("=")[0] not in words]
        code, out, err = command(capsys, *words, *short, "--out", str(tmp_path / "runs"))
        assert code == 0, err
        assert "| papa" in out
