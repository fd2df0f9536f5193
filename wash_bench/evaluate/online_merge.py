"""What a population merges to while it still trains: its average and its ensemble, validated."""

from collections.abc import Sequence

from wash_bench.core.population import ModelState
from wash_bench.evaluate.evaluator import Evaluator
from wash_bench.evaluate.scores import accuracy, mean_of_probabilities, nll


def merged_scores(
    evaluator: Evaluator, members: Sequence[ModelState], bn_images: int
) -> dict[str, float]:
    """Accuracy (per cent) and loss (nats) of the merged members on the validation images.

    Nothing of it is kept in the evaluator: members change from one call to the next.

    Args:
        evaluator: runs states of the population.
        members: states of the members that have begun.
        bn_images: images of BatchNorm re-estimation; 0 for the training set.

    Returns:
        ``average_val_acc`` and ``_nll`` of the average, ``average_bn_val_...`` of the average with
        statistics re-estimated (where there is a BatchNorm), ``ensemble_val_...`` of the ensemble
        (mean of probabilities).
    """
    average = ModelState.mean(members)
    outputs = {
        "ensemble": mean_of_probabilities([evaluator.compute(state, "val") for state in members]),
        "average": evaluator.compute(average, "val"),
    }
    if evaluator.has_batchnorm:
        fresh = evaluator.reestimated(average, bn_images)
        outputs["average_bn"] = evaluator.compute(fresh, "val")
    labels = evaluator.labels("val")
    scores = {}
    for name, log_probs in outputs.items():
        scores[f"{name}_val_acc"] = accuracy(log_probs, labels)
        scores[f"{name}_val_nll"] = nll(log_probs, labels)
    return scores
