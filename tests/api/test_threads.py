"""Two runs in threads of one program: torch's settings are the process's; the second is refused."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

import wash_bench as wb
from wash_bench.errors import UsageError
from wash_bench.runner.progress import Progress

TINY = {"image_size": 8, "model": "resnet8", "epochs": 1, "train_limit": 96, "population": 2}
TINY |= {"methods": "wash", "seeds": [0], "barrier_points": 3, "barrier_images": 20, "threads": 1}


@pytest.mark.fault(
    "The machine", "two `wb.run` in threads of one program", "the second is refused in one line"
)
@pytest.mark.slow
def test_a_second_run_in_a_thread_is_refused(tmp_path: Path) -> None:
    refused: list[Exception] = []

    def second(progress: Progress) -> None:
        if refused:
            return

        def run() -> None:
            try:
                wb.run("digits", out=tmp_path / "second", **TINY)
            except UsageError as error:
                refused.append(error)

        thread = threading.Thread(target=run)
        thread.start()
        thread.join()

    wb.run("digits", out=tmp_path / "first", observer=second, **TINY)
    assert "another thread of this program" in str(refused[0])
    assert not list((tmp_path / "second").glob("trainings/*"))
    wb.run("digits", out=tmp_path / "second", **TINY)  # one after another is fine
