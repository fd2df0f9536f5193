"""Everything that is reported of one trained population, under the names of ``metrics.py``."""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor

from wash_bench.config import EvaluationConfig
from wash_bench.core.judge import Predictor
from wash_bench.core.method import Method
from wash_bench.core.population import ModelState
from wash_bench.data.source import Split
from wash_bench.errors import CellFailure
from wash_bench.evaluate.barrier import Point, barrier_points, barrier_summary
from wash_bench.evaluate.corrupted import corruption_points, corruption_summary
from wash_bench.evaluate.evaluator import Evaluator
from wash_bench.evaluate.population_judge import PopulationJudge
from wash_bench.evaluate.scores import (
    accuracy,
    all_scores,
    disagreement,
    mean_of_logits,
    mean_of_probabilities,
)


def measure_population(
    evaluator: Evaluator,
    judge: PopulationJudge,
    config: EvaluationConfig,
    pulse: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[dict[str, Any], list[Point]]:
    """Measure one population on the whole test set, and its barriers, which ``pulse`` is told of.

    Members, ensemble, average and greedy soup each with the statistics they have (averaged for
    a merged network) and, as ``..._bn_...``, re-estimated on one and the same augmented stream.

    Returns:
        The columns of ``metrics.py`` that all cells of the training share, and the points; a
        CellFailure where a member's outputs are not numbers.
    """
    summary: dict[str, Any] = {}
    members = judge.members
    for split in ("val", "test"):  # before any choice among the members is made
        for row, member in enumerate(members):
            _finite(evaluator.log_probs(member, split), f"member {row}", split)
    average, greedy = judge.average(), judge.greedy()
    labels = evaluator.labels("test")

    def put(name: str, log_probs: Tensor) -> None:
        """The scores of a model; ``metrics.py`` has all names that this makes."""
        for score, value in all_scores(log_probs, labels, config.ece_bins).items():
            summary[f"{name}_{score}"] = value

    def put_members(name: str, log_probs: Sequence[Tensor]) -> None:
        each = [all_scores(member, labels, config.ece_bins) for member in log_probs]
        for score in each[0]:
            values = [scores[score] for scores in each]
            summary[f"{name}_{score}_mean"] = sum(values) / len(values)
            if score == "acc":
                summary[f"{name}_acc_min"] = min(values)
                summary[f"{name}_acc_max"] = max(values)

    plain = [evaluator.log_probs(member, "test") for member in members]
    put_members("member", plain)
    put("ensemble", mean_of_probabilities(plain))
    put("ensemble_logit", mean_of_logits(plain))
    put("average", evaluator.log_probs(average.states[0], "test"))
    put("greedy", evaluator.log_probs(greedy.states[0], "test"))
    summary["greedy_size"] = len(greedy.members)
    summary["greedy_members"] = " ".join(map(str, greedy.members))
    if len(members) > 1:
        summary["disagreement"] = disagreement(plain)
    # For whoever tunes a setting: test data must not choose it.
    validated = [judge.validation_accuracy(member) for member in members]
    summary["member_val_acc_mean"] = sum(validated) / len(validated)
    summary["average_val_acc"] = judge.validation_accuracy(average.states[0])

    def again(state: ModelState) -> Tensor:
        return evaluator.reestimated_log_probs(state, "test", config.bn_images)

    fresh = [again(member) for member in members]
    put_members("member_bn", fresh)
    put("ensemble_bn", mean_of_probabilities(fresh))
    put("average_bn", again(average.states[0]))
    put("greedy_bn", again(greedy.states[0]))

    if len(members) == 1:
        return summary, []
    points = barrier_points(evaluator, members, config, pulse)
    summary |= barrier_summary(points)
    consensus = evaluator.population.consensus()
    summary["consensus_distance"] = consensus["distance"]
    summary["consensus_relative"] = consensus["relative"]
    return summary, points


def measure_method(
    evaluator: Evaluator,
    judge: PopulationJudge,
    method: Method,
    config: EvaluationConfig,
    keep: Callable[[str, ModelState], None] = lambda name, state: None,
    known: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Measure what the method itself delivers, on the whole test set.

    ``keep`` is given its main model with its name, if that is a single network; ``known`` is what
    was measured of the population.

    Returns:
        ``method_predictor`` names its main model, the first, ``method_networks`` how many networks
        that is, ``method_acc`` its accuracy, ``method_bn_acc`` that of a single network with
        BatchNorm statistics re-estimated, ``method_val_acc`` its validation accuracy,
        ``merge_seconds`` the time to make all its models, ``student_steps`` and
        ``student_seconds`` what of it went into training a further network;
        ``predictor_NAME_acc`` is the accuracy of every one of them. Where corrupted images are
        asked for, ``corrupted_method_{acc,nll}`` are the main model's means over all of them.

    Raises:
        CellFailure: there is no model, or one whose outputs are not numbers.
    """
    began = time.monotonic()
    judge.spent.clear()
    predictors = method.predictors(evaluator.population, judge)
    if not predictors:
        raise CellFailure(f"{method.name} delivers no model: its predictors() is empty")
    result: dict[str, Any] = {"merge_seconds": time.monotonic() - began, **judge.spent}
    labels = evaluator.labels("test")
    for position, (name, predictor) in enumerate(predictors.items()):
        log_probs = _predict(evaluator, predictor)
        _finite(log_probs, f"the model {name!r}", "test")
        scores = all_scores(log_probs, labels, config.ece_bins)
        if position == 0:
            result["method_predictor"] = name
            result["method_networks"] = len(predictor.states)
            result |= {f"method_{score}": value for score, value in scores.items()}
            if len(predictor.states) == 1:
                (state,) = predictor.states
                keep(name, state)
                result["method_val_acc"] = judge.validation_accuracy(state)
                fresh = evaluator.reestimated_log_probs(state, "test", config.bn_images)
                result["method_bn_acc"] = accuracy(fresh, labels)
        result[f"predictor_{name}_acc"] = scores["acc"]
    if config.corruptions:
        main = next(iter(predictors.values()))
        result |= _corrupted(evaluator, judge, main, config, known or {})
    return result


def _corrupted(
    evaluator: Evaluator,
    judge: PopulationJudge,
    main: Predictor,
    config: EvaluationConfig,
    known: Mapping[str, Any],
) -> dict[str, float]:
    """Accuracy and loss of a method's main model on corrupted images, if need be measured."""
    usual = {"average": judge.average(), "ensemble": judge.ensemble()}
    for name, merge in usual.items():
        if _same(main, merge) and f"corrupted_{name}_acc" in known:
            return {f"corrupted_method_{s}": known[f"corrupted_{name}_{s}"] for s in ("acc", "nll")}
    points = corruption_points(evaluator, main.states, {}, config)
    found = corruption_summary([point for point in points if point.network == "ensemble"])
    return {f"corrupted_method_{s}": found[f"corrupted_ensemble_{s}"] for s in ("acc", "nll")}


def _same(one: Predictor, other: Predictor) -> bool:
    return len(one.states) == len(other.states) and all(
        mine is theirs for mine, theirs in zip(one.states, other.states, strict=True)
    )


def _finite(log_probs: Tensor, what: str, split: Split) -> None:
    if log_probs.isnan().any():
        images = "validation" if split == "val" else split
        raise CellFailure(f"the outputs of {what} are not numbers on the {images} images")


def _predict(evaluator: Evaluator, predictor: Predictor) -> Tensor:
    parts = [evaluator.log_probs(state, "test") for state in predictor.states]
    return parts[0] if len(parts) == 1 else mean_of_probabilities(parts)
