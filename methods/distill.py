"""Distillation of the ensemble into one network (Hinton et al. 2015, arXiv 1503.02531, section 2).

With z_n the logits of the N trained members and z those of a student of the same architecture,

    q(x) = (1/N) sum_n softmax(z_n(x) / T)                 soft targets: the members' mean
    min over the student of E_x[ -T^2 sum_c q_c(x) log softmax(z(x) / T)_c ]

over the training images under the run's augmentation, with the run's optimizer and schedule. The
factor T^2 keeps the gradient's scale whatever T (section 2, last paragraph). Members predict in
evaluation mode. The student begins where the first member did, or from weights of its own, and sees
the images in an order and under draws of its own.

Temperature: the default 1 makes the mean of probabilities, which the ensemble delivers, the target
itself. The paper uses up to 20 on MNIST and 2 on speech, and has nothing for these data sets.

Deviations: there is no second term with the true labels (the paper's weighs little), and images
that the recipe mixes have the members' predictions of the mixture as targets.

The student costs ``epochs`` times one member's training, and N forward passes a step besides, after
the population is trained: the record has its steps and seconds. Unverified: temperature and length.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from wash_bench.core.method import MethodOptions, option
from wash_bench.core.wrapper import MergeRule

if TYPE_CHECKING:
    from torch import Tensor, nn

    from wash_bench.core.merge_context import MergeContext
    from wash_bench.core.population import ModelState, Population


class DistillOptions(MethodOptions):
    """Settings of distillation."""

    start: Literal["first", "fresh"] = option(
        "first", "the student's initial weights: the first member's, or others that are drawn"
    )
    temperature: float = option(
        1.0, "T, by which logits are divided", unverified="the paper has none for such data", gt=0
    )
    epochs: float = option(
        1.0,
        "length of the student's training (rounded to epochs, at least one)",
        unit="share of the training",
        unverified="the paper names no length",
        gt=0,
    )


class Distill(MergeRule):
    """One student that learns the ensemble's predictions."""

    name = "distill"
    rule = "a student is trained on the members' mean probabilities"
    paper = "Hinton et al. 2015, arXiv 1503.02531"
    when = "one network of the ensemble's predictions, from members that cannot be averaged"
    needs = "a further training after the population's; its budget is recorded apart"
    Options = DistillOptions
    options: DistillOptions

    def merge(self, population: Population, judge: MergeContext) -> ModelState:
        import torch

        teachers = [judge.network(member) for member in judge.members]
        temperature = self.options.temperature

        def loss(student: nn.Module, images: Tensor) -> Tensor:
            with torch.no_grad():
                each = [(teacher(images).float() / temperature).softmax(1) for teacher in teachers]
                targets = torch.stack(each).mean(0)
            log_probs = (student(images).float() / temperature).log_softmax(1)
            return -(temperature**2) * (targets * log_probs).sum(1).mean()

        return judge.trained(loss, self.options.start, self.options.epochs)
