"""Comparisons between many rows, against textbook formulas and naive restatements."""

from __future__ import annotations

import json
import math
import statistics
from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from tests.support.records import write_cell
from wash_bench.cli.main import run_command
from wash_bench.config import fingerprint
from wash_bench.report.numbers.comparisons import (
    against,
    collapsed,
    crossed_bootstrap,
    fit,
    letters,
)
from wash_bench.report.numbers.pareto import equivalent, equivalents
from wash_bench.report.read import frames

SEEDS = range(5)


def noisy(shifts: dict[str, float], seed: int = 0) -> dict[str, dict[int, float]]:
    """Rows with effects of their own, a large effect of every seed, and noise."""
    draw = np.random.default_rng(seed)
    blocks = draw.normal(0, 3, len(SEEDS))
    return {
        row: {s: 80 + shift + blocks[s] + draw.normal(0, 0.3) for s in SEEDS}
        for row, shift in shifts.items()
    }


VALUES = noisy({"a": 0.0, "b": 0.1, "c": 0.9, "d": 3.0})


def residual_variance(values: dict[str, dict[int, float]]) -> float:
    """Of a complete table, by hand: what row and column means leave."""
    table = np.array([[own[s] for s in SEEDS] for own in values.values()])
    rest = table - table.mean(0) - table.mean(1, keepdims=True) + table.mean()
    return float((rest**2).sum() / (table.shape[0] - 1) / (table.shape[1] - 1))


def test_the_fit_is_the_two_way_analysis_of_variance():
    found = fit(VALUES)
    assert found.freedom == 3 * 4
    pairs = list(combinations(VALUES, 2))
    contrasts = found.contrasts(pairs)
    error = math.sqrt(2 * residual_variance(VALUES) / 5)
    assert contrasts.error == pytest.approx([error] * 6)
    means = {row: statistics.fmean(own.values()) for row, own in VALUES.items()}
    assert contrasts.difference == pytest.approx([means[a] - means[b] for a, b in pairs])


def test_seeds_that_one_row_has_say_nothing_and_rows_of_two_seeds_take_no_part():
    more = VALUES | {"a": VALUES["a"] | {9: 0.0}, "two": {0: 1.0, 1: 2.0}}
    assert fit(more).rows == list("abcd")
    pairs = [("a", "b")]
    assert fit(more).contrasts(pairs).t == pytest.approx(fit(VALUES).contrasts(pairs).t)
    assert fit({"a": VALUES["a"]}) is None and fit({}) is None
    assert fit({"a": VALUES["a"], "b": {s + 9: v for s, v in VALUES["b"].items()}}) is None
    missing = VALUES | {"b": VALUES["b"] | {0: math.nan}}
    assert fit(missing).freedom == 3 * 4 - 1


@settings(max_examples=15)
@given(st.integers(0, 1000), st.lists(st.sampled_from([0, 0.2, 0.5, 1, 4]), min_size=2, max_size=7))
def test_rows_share_a_letter_if_and_only_if_tukey_does_not_part_them(seed, shifts):
    values = noisy({f"r{i}": shift for i, shift in enumerate(shifts)}, seed)
    found = letters(values, "higher")
    means = {row: statistics.fmean(own.values()) for row, own in values.items()}
    scale = math.sqrt(residual_variance(values) / 5)
    freedom = (len(values) - 1) * 4
    for one, other in combinations(values, 2):
        p = stats.studentized_range.sf(abs(means[one] - means[other]) / scale, len(values), freedom)
        assert bool(set(found[one]) & set(found[other])) == (p > 0.05)
    assert "a" in found[max(means, key=means.get)]
    flipped = letters(values, "lower")
    assert "a" in flipped[min(means, key=means.get)]


def test_holm_is_stepwise_over_all_pairs():
    found = letters(VALUES, "higher", by="holm")
    pairs = list(combinations(VALUES, 2))
    p = fit(VALUES).contrasts(pairs).p
    rejected, order = set(), np.argsort(p)
    for step, at in enumerate(order):  # Holm 1979
        if p[at] > 0.05 / (len(p) - step):
            break
        rejected.add(pairs[at])
    assert 0 < len(rejected) < len(pairs)
    for one, other in pairs:
        assert bool(set(found[one]) & set(found[other])) == ((one, other) not in rejected)


def test_dunnett_is_the_greatest_of_several_statistics():
    found = against(VALUES, "a")
    draw = np.random.default_rng(1)
    normal, chi = draw.normal(size=(200_000, 4)), draw.chisquare(12, size=200_000)
    most = abs((normal[:, 1:] - normal[:, :1]) / math.sqrt(2) / np.sqrt(chi / 12)[:, None]).max(1)
    error = math.sqrt(2 * residual_variance(VALUES) / 5)
    for row, of_row in found.iterrows():
        expected = (most > abs(of_row["difference"]) / error).mean()
        assert of_row["p_adjusted"] == pytest.approx(expected, abs=0.005), row
        half = (of_row["high"] - of_row["low"]) / 2
        assert half == pytest.approx(error * np.quantile(most, 0.95), rel=0.02)
    assert set(found["adjustment"]) == {"Dunnett, blocks by seed"}
    assert (found["p_adjusted"] >= found["p"]).all()


def test_without_a_common_seed_it_is_scipys_one_way_test():
    draw = np.random.default_rng(3)
    rows = {name: dict(enumerate(draw.normal(shift, 1, 60)))
            for name, shift in (("base", 0), ("x", 0.3), ("y", 0.5), ("z", 0))}  # fmt: skip
    samples = {row: list(own.values()) for row, own in rows.items()}
    test = stats.dunnett(*(samples[row] for row in "xyz"), control=samples["base"])
    apart = {
        row: {seed + 100 * place: value for seed, value in own.items()}
        for place, (row, own) in enumerate(rows.items())
    }
    found = against(apart, "base")
    assert found["p_adjusted"].tolist() == pytest.approx(test.pvalue, abs=0.01)
    assert set(found["adjustment"]) == {"Dunnett"}


def test_one_comparison_is_not_adjusted():
    found = against({row: VALUES[row] for row in "ac"}, "a").loc["c"]
    test = stats.ttest_rel(list(VALUES["c"].values()), list(VALUES["a"].values()))
    assert (found["p"], found["p_adjusted"]) == pytest.approx((test.pvalue, test.pvalue))
    interval = test.confidence_interval()
    assert (found["low"], found["high"]) == pytest.approx(interval, abs=1e-6)


def test_equivalence_is_that_of_two_one_sided_tests():
    found = against({row: VALUES[row] for row in "ab"}, "a", margin=0.5).loc["b", "equivalent"]
    a, b = (np.array(list(VALUES[row].values())) for row in "ab")
    above = stats.ttest_1samp(b - a, -0.5, alternative="greater").pvalue
    below = stats.ttest_1samp(b - a, 0.5, alternative="less").pvalue
    assert found == (max(above, below) < 0.05)
    assert against(VALUES, "a", margin=3).loc["b", "equivalent"]
    assert not against(VALUES, "a", margin=0.01)["equivalent"].any()
    assert against(VALUES, "a")["equivalent"].isna().all()


def test_collapsed_rows_are_left_out_of_the_fit():
    wild = {"wild": dict(enumerate((10.0, 60.0, 5.0, 80.0, 20.0)))}
    accuracy = {row: statistics.fmean(own.values()) for row, own in (VALUES | wild).items()}
    fallen = collapsed(accuracy, dict.fromkeys(accuracy, 80.0), {})
    assert fallen == ["wild"]
    with_it, without = against(VALUES | wild, "a", fallen), against(VALUES, "a")
    assert with_it.loc["b", "p_adjusted"] == pytest.approx(without.loc["b", "p_adjusted"])
    assert math.isnan(with_it.loc["wild", "p"]) and with_it.loc["wild", "difference"] < -30
    assert "wild" not in letters(VALUES | wild, "higher", fallen)
    assert collapsed({"a": 80, "b": 80}, {}, {"a": 0.5, "b": 50.0, "c": 0.6}) == ["b"]


def test_the_bootstrap_takes_seeds_and_images():
    """Its spread is that of both: of the images alone it would be too narrow."""
    draw = np.random.default_rng(0)
    a, b = {}, {}
    for seed in range(6):
        shift = draw.normal(0, 1)
        a[seed] = draw.normal(1 + shift, 2, (400, 2))
        b[seed] = np.zeros((400, 2))
    (low, high), other = crossed_bootstrap(a, b, draws=500).T
    means = [float(own[:, 0].mean()) for own in a.values()]
    assert low < statistics.fmean(means) < high
    spread = (high - low) / 3.92
    assert spread == pytest.approx(statistics.pstdev(means) / math.sqrt(6), rel=0.3)
    assert other[0] < other[1]
    assert (crossed_bootstrap(a, b, 100) == crossed_bootstrap(a, b, 100)).all()
    same = {0: a[0], 1: a[0]}
    (low, high), _ = crossed_bootstrap(same, {0: b[0], 1: b[0]}, draws=500).T
    assert (high - low) / 3.92 == pytest.approx(2 / math.sqrt(400), rel=0.3)


# The deep-ensemble equivalent ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("nll", "size"),
    [
        (1.1, 0),
        (1.0, 1),
        (0.9, 1.5),
        (0.8, 2),
        (0.75, 2.5),
        (0.7, 3),
        (0.6999999, 3),
        (0.6, math.inf),
    ],
)
def test_a_curve_is_read_between_its_points(nll, size):
    assert equivalent(nll, [1.0, 0.8, 0.7]) == pytest.approx(size)


@given(st.lists(st.floats(0.1, 5), min_size=2, max_size=6), st.floats(0.1, 5))
def test_the_equivalent_is_the_first_crossing(curve, nll):
    found = equivalent(nll, curve)
    fine = np.linspace(1, len(curve), 20_001)
    reached = fine[np.interp(fine, np.arange(1, len(curve) + 1), curve) <= nll * (1 + 2e-4)]
    if found == 0:
        assert nll > curve[0]
    elif math.isinf(found):
        assert min(curve) > nll
    elif len(reached):
        assert reached[0] <= found + 1e-3


def test_the_equivalent_is_calibrated_where_it_can_be():
    cells = pd.DataFrame({
        "variant": ["naive-ensemble"] * 2 + ["wash"], "method": ["naive-ensemble"] * 2 + ["wash"],
        "seed": [0, 1, 0], "ensemble_size_nll": ["1.0 0.8", "1.2 0.8", None],
        "method_nll": [0.8, 0.8, 0.95], "method_nll_ts": [0.5, 0.5, 0.4],
    })  # fmt: skip
    assert equivalents(cells) == {"naive-ensemble": "2.0", "wash": "1.5"}
    cells["ensemble_size_nll_ts"] = ["0.7 0.5", "0.7 0.5", None]
    assert equivalents(cells) == {"naive-ensemble": "2.0", "wash": "> 2"}
    assert equivalents(cells[cells["method"] == "wash"]) == {}


# From records to files -------------------------------------------------------------------------


def test_a_report_compares_with_the_best_member_and_reads_outcomes(tmp_path, capsys):
    draw, images = np.random.default_rng(0), 300
    for method, accuracy in (("best-member", 85.0), ("wash", 90.0), ("papa", 85.2)):
        for seed in range(4):
            own = accuracy + 0.1 * draw.normal()
            sizes = {"ensemble_size_nll": "0.9 0.7 0.6", "dead_parameters": 3, "exchange_rounds": 7}
            path = write_cell(tmp_path, method, seed, summary={"average_acc": own} | sizes)
            correct = draw.random(images) < own / 100
            training = tmp_path / "trainings" / json.loads(path.read_text())["training_id"]
            training.mkdir(parents=True, exist_ok=True)
            np.savez(training / f"outcomes-{path.stem}.npz", method_correct=np.packbits(correct),
                     method_log_prob=np.log(np.where(correct, 0.9, 0.2)).astype(np.float16),
                     images=images)  # fmt: skip
    out = tmp_path / "report"
    command = ["report", str(tmp_path), "--figures", "none", "--out", str(out)]
    assert run_command([*command, "--margin", "0.5"]) == 0
    capsys.readouterr()
    rows = pd.read_csv(out / "comparisons.csv").set_index(["row", "metric"])
    assert set(rows["baseline"]) == {"best-member"}
    wash, papa = rows.loc[("wash", "method_acc")], rows.loc[("papa", "method_acc")]
    assert wash["p_adjusted"] < 0.001 and wash["low"] < wash["difference"] < wash["high"]
    assert not wash["equivalent"] and papa["equivalent"]
    records = frames.load([tmp_path])
    cells = records.summary.set_index(["method", "seed"])
    shares = [
        records.outcomes(cells.loc[("wash", s), "cell_id"])
        - records.outcomes(cells.loc[("best-member", s), "cell_id"])
        for s in range(4)
    ]
    assert wash["bootstrap_low"] < np.mean(shares, axis=(0, 1))[0] < wash["bootstrap_high"]
    nll = rows.loc[("wash", "method_nll")]
    assert nll["bootstrap_low"] < np.mean(shares, axis=(0, 1))[1] < nll["bootstrap_high"]
    text = (out / "table.md").read_text()
    assert "delivered − best-member" in text and "| exchanges |" in text.replace("MB sent", "")
    assert "Equivalent within 0.5 points of best-member (TOST, 5 %): papa." in text
    assert "parameters without a gradient" in text
    # A broken file of outcomes is named, and leaves the rest as it is.
    next((tmp_path / "trainings").glob("wash-s0-*/outcomes-*.npz")).write_bytes(b"PK torn")
    assert run_command(command) == 0
    again = pd.read_csv(out / "comparisons.csv").set_index(["row", "metric"])
    assert again.loc[("wash", "method_acc"), "p"] == pytest.approx(wash["p"])
    assert "no outcomes that can be read" in (out / "table.md").read_text()


def test_outcomes_of_a_measured_network_are_those_of_its_training(tmp_path):
    path = write_cell(tmp_path, "wash", 0)
    record = json.loads(path.read_text())
    key = fingerprint(record["config"]["evaluation"])
    np.savez(tmp_path / "trainings" / record["training_id"] / f"outcomes-{key}.npz",
             average_correct=np.packbits([1, 0, 1]), images=3,
             average_log_prob=np.float16([-0.5, -2, -0.25]))  # fmt: skip
    found = frames.load([tmp_path]).outcomes(record["cell_id"])
    assert found.tolist() == [[100, 0.5], [0, 2], [100, 0.25]]


def test_a_margin_needs_a_row_to_compare_with(tmp_path, capsys):
    write_cell(tmp_path, "wash", 0)
    out = tmp_path / "report"
    command = ["report", str(tmp_path), "--figures", "none", "--out", str(out)]
    assert run_command([*command, "--margin", "0.3"]) == 2
    assert "--baseline" in capsys.readouterr().err and not out.exists()
    assert run_command([*command, "--margin", "0.3", "--baseline", "wash"]) == 0


def test_two_seeds_are_compared_with_nothing(tmp_path):
    for method in ("wash", "best-member"):
        for seed in range(2):
            write_cell(tmp_path, method, seed)
    out = tmp_path / "report"
    assert run_command(["report", str(tmp_path), "--figures", "none", "--out", str(out)]) == 0
    rows = pd.read_csv(out / "comparisons.csv")
    assert rows["difference"].notna().all() and rows["p_adjusted"].isna().all()
    text = (out / "table.md").read_text()
    assert "±" not in text and "letter" not in text
