"""The notebook of the docs runs as it stands."""

from __future__ import annotations

from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

NOTEBOOK = Path(__file__).parents[2] / "docs" / "examples" / "notebook.ipynb"
SHORT = (
    '"epochs": 1, "train_limit": 150, "threads": 1, "population": 2, "barrier_images": 20, '
    '"bn_images": 32, "barrier_bn_images": 32'
)


def test_it_runs_and_shows_progress_tables_and_a_figure(tmp_path) -> None:
    nbformat = pytest.importorskip("nbformat")
    client = pytest.importorskip("nbclient").NotebookClient
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    for cell in notebook.cells:
        cell.source = cell.source.replace('"epochs": 4', SHORT)
    client(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    shown = {cell.source.split("(")[0]: cell.outputs for cell in code}
    streams = [out for outputs in shown.values() for out in outputs if "name" in out]
    assert all(out["name"] == "stdout" and out["text"].startswith("note: ") for out in streams)
    (progress,) = [out for out in shown["ran = wb.run"] if out not in streams]
    assert progress["data"]["text/html"].count("finished") == 3
    assert "<th>ensemble</th>" in shown["ran.table"][0]["data"]["text/html"]
    assert "image/png" in shown["wb.figures"][0]["data"]
    last = code[-1].outputs[-1]["data"]["text/html"]
    assert "uniform-soup" in last and "greedy-soup" in last
