"""Everything that is reported of one trained population, under the names of ``metrics.py``."""

import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from torch import Tensor

from wash_bench.config import EvaluationConfig
from wash_bench.core.merge_context import Predictor, best_member
from wash_bench.core.method import Method
from wash_bench.core.population import ModelState
from wash_bench.data.source import Split
from wash_bench.errors import CellFailure
from wash_bench.evaluate.barrier import Point, barrier_points, barrier_summary
from wash_bench.evaluate.calibration import calibrated_nll
from wash_bench.evaluate.corrupted import corruption_points, corruption_summary
from wash_bench.evaluate.evaluator import Evaluator
from wash_bench.evaluate.population_context import PopulationJudge
from wash_bench.evaluate.scores import (
    accuracy,
    all_scores,
    disagreement,
    mean_of_logits,
    mean_of_probabilities,
    nll,
)

KEPT_IMAGES = 10_000  # whose outcomes take 21 kB per model


class Outcomes(dict[str, np.ndarray]):
    """Per-image outcomes on test images, of at most ``KEPT_IMAGES``: NumPy arrays by name.

    ``NAME_correct`` are packed bits, ``NAME_log_prob`` the label's log-probability in float16,
    ``images`` their count.
    """

    def __init__(self, evaluator: Evaluator) -> None:
        super().__init__()
        images = len(evaluator.labels("test"))
        self._positions = evaluator.data.eval_positions("test", min(images, KEPT_IMAGES))
        self._labels = evaluator.labels("test")[self._positions]
        self["images"] = np.array(len(self._positions))

    def put(self, name: str, log_probs: Tensor) -> None:
        """Keep the outcomes of a model with log-probabilities (M, C) on the test split."""
        kept = log_probs[self._positions]
        correct = kept.argmax(dim=1) == self._labels
        self[f"{name}_correct"] = np.packbits(correct.numpy())
        of_label = kept.gather(1, self._labels[:, None])[:, 0]
        self[f"{name}_log_prob"] = of_label.clamp(min=-6e4).numpy().astype(np.float16)


def measure_population(
    evaluator: Evaluator,
    judge: PopulationJudge,
    config: EvaluationConfig,
    pulse: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[dict[str, Any], list[Point], Outcomes]:
    """Measure one population on the whole test set, and its barriers, which ``pulse`` is told of.

    Members, ensemble, average and greedy soup each with the statistics they have (averaged for
    a merged network) and, as ``..._bn_...``, re-estimated on one and the same augmented stream.

    Returns:
        The columns of ``metrics.py`` that all cells of the training share, the points, and the
        outcomes per image of the best member, the ensemble and the average; a CellFailure where a
        member's outputs are not numbers.
    """
    summary: dict[str, Any] = {}
    outcomes = Outcomes(evaluator)
    members = judge.members
    for split in ("val", "test"):  # before any choice among the members is made
        for row, member in enumerate(members):
            _finite(evaluator.log_probs(member, split), f"member {row}", split)
    average, greedy = judge.average().states[0], judge.greedy().states[0]

    def scores(of: Callable[[Split], Tensor]) -> dict[str, float]:
        return _scores(evaluator, of, config.ece_bins)

    def put(name: str, of: Callable[[Split], Tensor]) -> None:
        """The scores of a model; ``metrics.py`` has all names that this makes."""
        summary.update({f"{name}_{score}": value for score, value in scores(of).items()})

    def put_members(name: str, members: Sequence[Callable[[Split], Tensor]]) -> None:
        each = [scores(member) for member in members]
        for score in each[0]:
            values = [scores[score] for scores in each]
            summary[f"{name}_{score}_mean"] = sum(values) / len(values)
            if score == "acc":
                summary[f"{name}_acc_min"] = min(values)
                summary[f"{name}_acc_max"] = max(values)

    plain = [partial(evaluator.log_probs, member) for member in members]
    best = best_member(judge)
    models = {
        "ensemble": ensemble_of(plain),
        "average": partial(evaluator.log_probs, average),
        "best": plain[best],
    }
    put_members("member", plain)
    put("ensemble", models["ensemble"])
    put("ensemble_logit", lambda split: mean_of_logits([member(split) for member in plain]))
    put("average", models["average"])
    put("greedy", partial(evaluator.log_probs, greedy))
    put("best", models["best"])
    summary["best_member"] = best
    summary["greedy_size"] = len(judge.greedy().members)
    summary["greedy_members"] = " ".join(map(str, judge.greedy().members))
    if len(members) > 1:
        summary["disagreement"] = disagreement([member("test") for member in plain])
    # For whoever tunes a setting: test data must not choose it.
    validated = [judge.validation_accuracy(member) for member in members]
    summary["member_val_acc_mean"] = sum(validated) / len(validated)
    summary["member_val_nll_mean"] = sum(map(judge.validation_loss, members)) / len(members)
    summary["average_val_acc"] = judge.validation_accuracy(average)
    for score, values in _ensemble_sizes(evaluator, plain).items():
        summary[f"ensemble_size_{score}"] = " ".join(f"{value:.6g}" for value in values)

    def again(state: ModelState) -> Callable[[Split], Tensor]:
        return lambda split: evaluator.reestimated_log_probs(state, split, config.bn_images)

    fresh = [again(member) for member in members]
    models["average_bn"] = again(average)
    put_members("member_bn", fresh)
    put("ensemble_bn", ensemble_of(fresh))
    put("average_bn", models["average_bn"])
    put("greedy_bn", again(greedy))
    for name, of in models.items():
        outcomes.put(name, of("test"))
    if config.test_pool == "rest":
        summary |= _rest(evaluator, models, plain)

    if len(members) == 1:
        return summary, [], outcomes
    points = barrier_points(evaluator, members, config, pulse)
    summary |= barrier_summary(points)
    consensus = evaluator.population.consensus()
    summary["consensus_distance"] = consensus["distance"]
    summary["consensus_relative"] = consensus["relative"]
    return summary, points, outcomes


def ensemble_of(members: Sequence[Callable[[Split], Tensor]]) -> Callable[[Split], Tensor]:
    """Return the log of the mean probability of models, by split."""
    return lambda split: mean_of_probabilities([member(split) for member in members])


def _scores(evaluator: Evaluator, of: Callable[[Split], Tensor], bins: int) -> dict[str, float]:
    """The scores of a model on test images; ``nll_ts``: at the temperature of validation data."""
    test, validation = ((of(split), evaluator.labels(split)) for split in ("test", "val"))
    return all_scores(*test, bins) | {"nll_ts": calibrated_nll(test, validation)}


def _ensemble_sizes(
    evaluator: Evaluator, members: Sequence[Callable[[Split], Tensor]]
) -> dict[str, list[float]]:
    """NLL, as it is and calibrated, of ensembles of 1 to N members: means over N subsets each."""
    n = len(members)
    sizes: dict[str, list[float]] = {"nll": [], "nll_ts": []}
    for k in range(1, n + 1):
        # Neighbours in a circle, so that every member is in equally many subsets.
        circle = [[members[(first + i) % n] for i in range(k)] for first in range(n)]
        each = [
            _scores(evaluator, ensemble_of(chosen), 1) for chosen in circle[: n if k < n else 1]
        ]
        for score, values in sizes.items():
            values.append(sum(scores[score] for scores in each) / len(each))
    return sizes


def _rest(
    evaluator: Evaluator,
    models: Mapping[str, Callable[[Split], Tensor]],
    members: Sequence[Callable[[Split], Tensor]] = (),
) -> dict[str, Any]:
    """Accuracy and NLL on the images that are neither trained, validated nor tested on."""
    labels = evaluator.labels("rest")
    if not len(labels):
        return {"rest_images": 0}
    found: dict[str, Any] = {"rest_images": len(labels)}
    scores = {"acc": accuracy, "nll": nll}
    for name, of in models.items():
        found |= {f"rest_{name}_{key}": score(of("rest"), labels) for key, score in scores.items()}
    if members:
        each = [member("rest") for member in members]
        for key, score in scores.items():
            found[f"rest_member_{key}_mean"] = sum(score(m, labels) for m in each) / len(each)
    return found


def measure_method(
    evaluator: Evaluator,
    judge: PopulationJudge,
    method: Method,
    config: EvaluationConfig,
    keep: Callable[[str, ModelState], None] = lambda name, state: None,
    known: Mapping[str, Any] | None = None,
) -> tuple[dict[str, Any], Outcomes]:
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
        asked for, ``corrupted_method_{acc,nll}`` are the main model's means over all of them. Then
        the main model's outcomes per image.

    Raises:
        CellFailure: there is no model, or one whose outputs are not numbers.
    """
    began = time.monotonic()
    judge.spent.clear()
    predictors = method.predictors(evaluator.population, judge)
    if not predictors:
        raise CellFailure(f"{method.name} delivers no model: its predictors() is empty")
    result: dict[str, Any] = {"merge_seconds": time.monotonic() - began, **judge.spent}
    outcomes = Outcomes(evaluator)
    for position, (name, predictor) in enumerate(predictors.items()):
        parts = [partial(evaluator.log_probs, state) for state in predictor.states]
        model = parts[0] if len(parts) == 1 else ensemble_of(parts)
        _finite(model("test"), f"the model {name!r}", "test")
        scores = _scores(evaluator, model, config.ece_bins)
        if position == 0:
            outcomes.put("method", model("test"))
            if config.test_pool == "rest":
                result |= _rest(evaluator, {"method": model})
            result["method_predictor"] = name
            result["method_networks"] = len(predictor.states)
            result |= {f"method_{score}": value for score, value in scores.items()}
            if len(predictor.states) == 1:
                (state,) = predictor.states
                keep(name, state)
                result["method_val_acc"] = judge.validation_accuracy(state)
                again = partial(_reestimated, evaluator, state, config.bn_images)
                fresh = _scores(evaluator, again, config.ece_bins)
                result |= {f"method_bn_{score}": fresh[score] for score in ("acc", "nll", "nll_ts")}
        result[f"predictor_{name}_acc"] = scores["acc"]
    if config.corruptions:
        main = next(iter(predictors.values()))
        result |= _corrupted(evaluator, judge, main, config, known or {})
    return result, outcomes


def _reestimated(evaluator: Evaluator, state: ModelState, images: int, split: Split) -> Tensor:
    return evaluator.reestimated_log_probs(state, split, images)


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
