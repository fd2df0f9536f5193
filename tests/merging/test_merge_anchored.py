"""Merge rules about a common start, against restatements coordinate by coordinate."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.support.populations import small_population
from tests.support.random_members import FakeJudge, members, merged, values
from wash_bench.core.population import ModelState
from wash_bench.errors import CellFailure
from wash_bench.methods.dare import Dare, DareOptions
from wash_bench.methods.task_arithmetic import TaskArithmetic, TaskArithmeticOptions
from wash_bench.methods.ties import Ties, TiesOptions
from wash_bench.methods.wise_ft import WiseFt, WiseFtOptions
from wash_bench.seeds import numpy_stream

START = small_population(1, seed=99).state(0)
RULES = [TaskArithmetic, Ties, Dare, WiseFt]
MEAN = {"combine": "mean", "scales": 1.0}


def deltas(population) -> np.ndarray:
    return population.weights.double().numpy() - START.weights.double().numpy()


def around(change: np.ndarray, scale: float = 1.0) -> np.ndarray:
    return START.weights.double().numpy() + scale * change


def close(state: ModelState, expected: np.ndarray) -> None:
    np.testing.assert_allclose(state.weights.double().numpy(), expected, rtol=1e-5, atol=1e-6)


def naive_trim(vector: list[float], density: float) -> list[float]:
    kept = max(1, int(density * len(vector)))
    largest = sorted(range(len(vector)), key=lambda i: -abs(vector[i]))[:kept]
    return [value if i in largest else 0.0 for i, value in enumerate(vector)]


def naive_ties(rows: list[list[float]], mean: bool) -> list[float]:
    result = []
    for column in zip(*rows, strict=True):
        sign = 1 if sum(column) >= 0 else -1
        agree = [value for value in column if value * sign > 0]
        result.append(sum(agree) / (len(agree) if mean and agree else 1))
    return result


@pytest.mark.parametrize(("combine", "scale"), [("sum", 0.3), ("mean", 0.7)])
def test_task_arithmetic_adds_what_was_learned(combine, scale):
    population = members(3)
    rule = TaskArithmetic(TaskArithmeticOptions(combine=combine, scales=(scale,)))
    change = deltas(population).sum(axis=0) / (1 if combine == "sum" else 3)
    result = merged(rule, population, start=START)
    close(result, around(change, scale))
    np.testing.assert_allclose(result.buffers, population.buffers.mean(dim=0), rtol=1e-6)


@pytest.mark.parametrize("combine", ["sum", "mean"])
@pytest.mark.parametrize("per", ["tensor", "model"])
@pytest.mark.parametrize("density", [0.2, 0.5, 1.0])
def test_ties_trims_elects_and_merges(density, per, combine):
    population = members(4)
    rule = Ties(TiesOptions(density=density, per=per, combine=combine, scales=(0.8,)))
    spans = [(piece.offset, piece.stop) for piece in population.layout.slices]
    spans = spans if per == "tensor" else [(0, population.layout.size)]
    rows = [
        [x for first, stop in spans for x in naive_trim(row[first:stop].tolist(), density)]
        for row in deltas(population)
    ]
    change = naive_ties(rows, combine == "mean")
    assert (0 in change) == (density < 1)  # where all were trimmed
    close(merged(rule, population, start=START), around(np.array(change), 0.8))


def test_ties_ranks_the_whole_network_unless_told_otherwise():
    population = members(4)
    change = naive_ties([naive_trim(row.tolist(), 0.2) for row in deltas(population)], True)
    close(merged(Ties(), population, start=START), around(np.array(change)))


@pytest.mark.parametrize("elect", [False, True])
def test_dare_drops_at_random_and_rescales(elect):
    population = members(3)
    rule = Dare(DareOptions(density=0.3, elect=elect))
    size = population.layout.size
    rows = [
        (row * (numpy_stream(3, "dare", member).random(size) < 0.3) / 0.3).tolist()
        for member, row in enumerate(deltas(population))
    ]
    change = naive_ties(rows, True) if elect else np.mean(rows, axis=0)
    close(merged(rule, population, start=START), around(np.array(change)))


def test_dare_keeps_its_share_and_the_expectation():
    """Over 2,000 draws: each coordinate's mean is the change that was dropped from."""
    population, judge = members(1), FakeJudge(members(1), START)
    delta, rule = torch.from_numpy(deltas(population)[0]).float(), Dare(DareOptions(density=0.4))
    total, kept = torch.zeros_like(delta), 0
    for seed in range(2000):
        judge.seed = seed
        left = rule.sparse(delta, 0, judge)
        total += left
        kept += int((left != 0).sum())
    assert kept / (2000 * len(delta)) == pytest.approx(0.4, abs=0.005)
    assert ((total / 2000 - delta).abs() < 6 * delta.abs() * (1.5 / 2000) ** 0.5 + 1e-6).all()


@pytest.mark.parametrize(
    "rule",
    [
        TaskArithmetic(TaskArithmeticOptions(**MEAN)),
        Dare(DareOptions(density=1, **MEAN)),
        WiseFt(WiseFtOptions(of="average", scales=1.0)),
    ],
    ids=lambda rule: rule.name,
)
def test_all_of_everything_is_the_uniform_soup(rule):
    population = members(4)
    soup = ModelState.mean(population.states())
    np.testing.assert_allclose(
        values(merged(rule, population, start=START)), values(soup), rtol=1e-5, atol=1e-6
    )


def test_ties_without_a_trim_or_a_quarrel_is_the_uniform_soup():
    population = members(3)
    population.weights.sub_(START.weights).abs_().add_(START.weights)
    soup = ModelState.mean(population.states()).weights
    close(merged(Ties(TiesOptions(density=1.0)), population, start=START), soup.double().numpy())
    population.weights[1] = 2 * START.weights - population.weights[0]
    population.weights[2] = population.weights[0]  # two against one: the mean of the two
    expected = population.weights[0].double().numpy()
    close(merged(Ties(TiesOptions(density=1.0)), population, start=START), expected)


@pytest.mark.parametrize("rule", [TaskArithmetic, Ties, Dare], ids=lambda rule: rule.name)
def test_a_scale_of_nothing_is_the_start(rule):
    state = merged(rule(rule.Options(scales=0.0)), members(3), start=START)
    assert torch.equal(state.weights, START.weights)


@pytest.mark.parametrize("of", ["member", "average"])
def test_wise_ft_lies_on_the_line_from_the_start(of):
    population = members(3)  # member 0 is the best: the labels are its own
    tuned = population.state(0) if of == "member" else ModelState.mean(population.states())
    for scale in (0.0, 0.25, 1.0):
        rule = WiseFt(WiseFtOptions(of=of, scales=(scale,)))
        expected = scale * values(tuned) + (1 - scale) * values(START)
        result = values(merged(rule, population, start=START))
        np.testing.assert_allclose(result, expected, rtol=1e-5, atol=1e-6)
    made = WiseFt(WiseFtOptions(of=of)).predictors(population, FakeJudge(population, START))
    assert made["wise-ft"].members == ((0,) if of == "member" else (0, 1, 2))


@pytest.mark.parametrize("rule", [TaskArithmetic, WiseFt], ids=lambda rule: rule.name)
def test_validation_chooses_the_scale(rule):
    population = members(3)
    judge = FakeJudge(population, START)
    scales = rule.Options().scales
    one_by_one = [rule(rule.Options(scales=(scale,))).merge(population, judge) for scale in scales]
    states = [models[rule.name] for models in one_by_one]
    states = [getattr(state, "states", [state])[0] for state in states]
    accuracies = [judge.validation_accuracy(state) for state in states]
    chosen = merged(rule, population, start=START)
    assert torch.equal(chosen.weights, states[accuracies.index(max(accuracies))].weights)
    assert min(accuracies) < max(accuracies)


def test_what_is_no_number_is_not_chosen():
    population = members(2)
    judge = FakeJudge(population, START)
    answers = iter([float("nan"), 50.0, float("nan")])
    judge.validation_accuracy = lambda state: next(answers)
    rule = TaskArithmetic(TaskArithmeticOptions(combine="mean", scales="0.5,1,2"))
    soup = ModelState.mean(population.states())
    close(rule.merge(population, judge)["task-arithmetic"], soup.weights.double().numpy())


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_they_ask_for_a_common_start_and_offer_fresh_statistics(rule):
    population = members(3)
    before = population.weights.clone(), population.buffers.clone()
    with pytest.raises(CellFailure, match="--init shared"):
        merged(rule, population, start=None)
    made = rule().predictors(population, FakeJudge(population, START))
    assert list(made) == [rule.name, "reestimated", "average"]
    assert made["reestimated"].states[0].buffers.eq(1).all()
    made[rule.name].states[0].weights.zero_()
    assert torch.equal(population.weights, before[0])
    assert torch.equal(population.buffers, before[1])


def test_equal_members_with_all_kept_are_a_fixed_point():
    population = members(5)
    population.weights[:] = population.weights[0].clone()
    for rule in (Ties(TiesOptions(density=1.0)), TaskArithmetic(TaskArithmeticOptions(**MEAN))):
        close(merged(rule, population, start=START), population.weights[0].double().numpy())
