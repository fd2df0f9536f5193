"""The comm command's arithmetic."""

from __future__ import annotations

import json

import pytest

from tests.support.command import command


def comm(capsys, *arguments: str) -> dict[str, dict]:
    code, out, err = command(capsys, "comm", *arguments, "--json")
    assert (code, err) == (0, "")
    return {row["method"]: row for row in json.loads(out)}


def test_comm_gives_the_closed_forms(capsys):
    """Parameters and sums p_l d_l of the papers' networks, computed from their definition."""
    rows = comm(capsys, "--model", "resnet18", "--stem", "cifar", "--num-classes", "100")
    assert {row["parameters"] for row in rows.values()} == {11_220_132}
    mixed = 0.2154 * 0.001 * 11_220_132 * 2 / 3  # mean of 1 - l/(L-1), p, d, 1 - 1/N
    assert rows["wash"]["sent_values_per_step"] == pytest.approx(mixed, rel=5e-4)
    assert rows["wash-opt"]["sent_values_per_step"] == pytest.approx(
        2 * rows["wash"]["sent_values_per_step"]
    )
    assert rows["papa"]["sent_values_total"] == 100 * 11_220_132
    assert rows["papa"]["sent_bytes_total"] == 4 * rows["papa"]["sent_values_total"]
    # A ring sends 2 (N-1)/N of weights and of BatchNorm's 9,600 statistics.
    assert rows["papa"]["wire_bytes_total"] == pytest.approx(100 * 4 * 4 / 3 * (11_220_132 + 9_600))
    assert rows["papa"]["sent_values_total_std"] == 0 < rows["wash"]["sent_values_total_std"]
    for name in ("greedy-soup", "naive-ensemble"):
        assert rows[name]["sent_values_total"] == rows[name]["wire_bytes_total"] == 0
        assert rows[name]["by_kind"] == {}
    for row in rows.values():
        kinds = row["by_kind"].values()
        assert sum(kind["sent_values"] for kind in kinds) == pytest.approx(row["sent_values_total"])
        assert sum(kind["wire_bytes"] for kind in kinds) == pytest.approx(row["wire_bytes_total"])
        assert row["sent_values_per_step"] * row["steps"] == pytest.approx(row["sent_values_total"])


def test_comm_heeds_its_options(capsys):
    base = ["--model", "test_resnet", "--methods", "wash-opt", "--steps", "50"]
    plain = comm(capsys, *base)["wash-opt"]
    changed = comm(
        capsys, *base, "--population", "5", "--set", "wash-opt.p=0.1", "--optimizer", "adamw"
    )["wash-opt"]
    factor = 100 * (4 / 5) / (2 / 3) * 3 / 2  # p, 1 - 1/N, weights and two moments instead of one
    assert changed["sent_values_total"] == pytest.approx(factor * plain["sent_values_total"])
    code, out, _ = command(capsys, "comm", *base)
    assert code == 0
    assert f"{plain['parameters']:,} parameters" in out and "permute/optimizer x50" in out


def test_what_a_method_without_charges_sends_is_not_predicted(capsys, tmp_path):
    """Neither 0 nor an error: null in JSON, and words in a table."""
    own = tmp_path / "own.py"
    own.write_text(
        "from wash_bench.core.method import Method\n\n\nclass Own(Method):\n"
        "    name, rule, paper, sends = 'own', 'x', 'none', 'all'\n\n"
        "    def after_step(self, population, exchange, clock):\n"
        "        population.weights[:] = exchange.mean(population.weights)\n"
    )
    base = ["--model", "test_resnet", "--methods", f"papa,{own}:Own"]
    time = ["--bandwidth", "1Gbit", "--step-time", "10ms"]
    rows = comm(capsys, *base, *time)
    assert rows["own"].keys() == rows["papa"].keys()
    given = ("variant", "method", "population", "parameters", "steps")
    assert {key for key, value in rows["own"].items() if value is not None} == set(given)
    assert all(value is not None for value in rows["papa"].values())
    for arguments in (["comm", *base, *time], ["plan", "digits", *base, "--train-limit=64"]):
        code, out, _ = command(capsys, *arguments)
        assert code == 0
        lines = [line for line in out.splitlines() if line.strip().startswith("own ")]
        assert lines and all("not predicted" in line for line in lines)
