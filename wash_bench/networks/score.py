"""One network measured on one split, as the evaluation of a population measures its members."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from wash_bench.core.population import Population
from wash_bench.evaluate.corrupted import CorruptionPoint, corruption_points
from wash_bench.evaluate.evaluator import Evaluator
from wash_bench.evaluate.scores import all_scores
from wash_bench.models.init_checkpoint import InitCheckpoint

if TYPE_CHECKING:
    from torch import nn

    from wash_bench.config import EvaluationConfig
    from wash_bench.data.source import Split
    from wash_bench.runner.training_setup import TrainingSetup


def network_of(setting: TrainingSetup, checkpoint: InitCheckpoint) -> tuple[nn.Module, str]:
    """A network with a checkpoint's weights, float32, head included, and a note or "".

    A tensor that does not fit, or is not finite, is a UsageError that names file and tensor.

    Args:
        setting: whose architecture and classes it is.
        checkpoint: the weights.

    Returns:
        The network in train mode, on the CPU; what was taken off the tensors' names.
    """
    network = setting.network(0, 0)
    checkpoint.check_finite()
    note = checkpoint.load_into(network, setting.config.model, new_head=False)
    return network, note


def scores_of(
    setting: TrainingSetup, network: nn.Module, split: Split, config: EvaluationConfig
) -> Mapping[str, float]:
    """``acc`` and ``ece`` in per cent, ``nll`` in nats, ``brier``, of a network on a split."""
    # On the machine of a run, with as many threads, these are the bits of its record.
    evaluator = _evaluator(setting, network)
    log_probs = evaluator.compute(evaluator.population.state(0), split)
    return all_scores(log_probs, evaluator.labels(split), config.ece_bins)


def corrupted_scores(
    setting: TrainingSetup, network: nn.Module, config: EvaluationConfig
) -> list[CorruptionPoint]:
    """Loss and accuracy of a network under each corruption and severity that is asked for."""
    evaluator = _evaluator(setting, network)
    state = evaluator.population.state(0)
    points = corruption_points(evaluator, [state], {}, config)
    return [point for point in points if point.network == "member"]


def _evaluator(setting: TrainingSetup, network: nn.Module) -> Evaluator:
    training = setting.config
    population = Population(
        lambda _: network, 1, device=setting.device, channels_last=training.channels_last
    )
    return Evaluator(population, setting.data, training.amp, 0, setting.recipes(0))
