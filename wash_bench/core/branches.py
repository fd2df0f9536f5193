"""Members that see the images under augmentations of their own: the run's, or a method's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from pydantic import field_validator

from wash_bench.core.method import MethodOptions, option

if TYPE_CHECKING:
    from wash_bench.core.method import Method
    from wash_bench.core.step_info import StepInfo
    from wash_bench.data.recipe import Recipe

Branch = Literal["auto-augment", "cutout", "cutmix", "mixup", "plain"]


class BranchOptions(MethodOptions):
    """The branches and the strengths of their augmentations."""

    branches: tuple[Branch, ...] = option(
        ("plain",),
        "augmentation of member 0, 1, ..., repeated as needed: "
        "auto-augment, cutout, cutmix, mixup, plain",
        min_length=1,
    )
    cutout: int = option(8, "side of the square of the cutout branch", unit="pixels", ge=1)
    cutmix: float = option(1.0, "alpha of the cutmix branch's Beta(alpha, alpha)", gt=0)
    mixup: float = option(1.0, "alpha of the mixup branch's Beta(alpha, alpha)", gt=0)

    @field_validator("branches", mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:
        return value.split(",") if isinstance(value, str) else value

    def recipe(self, member: int, base: Recipe) -> Recipe:
        """``base`` with the augmentation of the member's branch."""
        branch = self.branches[member % len(self.branches)]
        return branched(base, branch, self.cutout, self.cutmix, self.mixup)


def branched(
    base: Recipe, branch: str, cutout: int = 8, cutmix: float = 1.0, mixup: float = 1.0
) -> Recipe:
    """Return ``base`` with the augmentation of a branch, at a strength (pixels; alphas)."""
    match branch:
        case "auto-augment":
            return base.but(auto_augment=True)
        case "cutout":
            return base.but(cutout=cutout)
        case "cutmix":
            return base.but(cutmix=cutmix)
        case "mixup":
            return base.but(mixup=mixup)
    return base


def recipe_of(
    method: Method, member: int, base: Recipe, branches: Sequence[str], clock: StepInfo
) -> Recipe:
    """Return the augmentation that a member trains with in the epoch that ``clock`` names.

    Args:
        method: the training rule; an augmentation of its own wins over the run's branches.
        member: the index of the member.
        base: its base recipe.
        branches: those of the run; empty for none.
        clock: the first step of the epoch.
    """
    own = method.recipe(member, base, clock)
    if not branches or own != base:
        return own
    return branched(base, branches[member % len(branches)])
