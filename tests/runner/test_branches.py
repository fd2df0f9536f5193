"""Augmentations of single members, as a setting of the run: for any method, DART's own winning."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.support.command import command
from tests.support.populations import PLAN
from tests.support.runs import entries_of, records_of
from tests.support.training_loop import loop_of
from wash_bench.config import RunConfig
from wash_bench.core.branches import recipe_of
from wash_bench.core.method import Method
from wash_bench.core.wrapper import Independent
from wash_bench.data.recipe import Recipe
from wash_bench.methods.dart import Dart, DartOptions
from wash_bench.methods.lookaround import Lookaround
from wash_bench.methods.naive_ensemble import NaiveEnsemble
from wash_bench.methods.wash import Wash, WashOptions
from wash_bench.report.read.frames import load
from wash_bench.runner.context import RunContext
from wash_bench.runner.experiment import run_experiment
from wash_bench.runner.training_setup import TrainingSetup

BASE = Recipe(crop_padding=4, flip=True)
BRANCHES = ("plain", "auto-augment", "cutout", "cutmix", "mixup")
OF_BRANCHES = [
    BASE,
    Recipe(crop_padding=4, flip=True, auto_augment=True),
    Recipe(crop_padding=4, flip=True, cutout=8),
    Recipe(crop_padding=4, flip=True, cutmix=1.0),
    Recipe(crop_padding=4, flip=True, mixup=1.0),
]


def test_member_i_has_the_branch_i_in_turn() -> None:
    clock = PLAN.clock(0)
    for method in (Independent(), Wash()):
        got = [recipe_of(method, member, BASE, BRANCHES, clock) for member in range(6)]
        assert got == [*OF_BRANCHES, BASE]
        assert recipe_of(method, 1, BASE, (), clock) == BASE


def test_a_methods_own_branches_win() -> None:
    start, later = PLAN.clock(0), PLAN.clock(PLAN.steps - 1)
    run = ("mixup",)
    dart = Dart(DartOptions(branches=("plain", "cutout"), warmup=0.5))
    mixup, cutout = OF_BRANCHES[4], OF_BRANCHES[2]
    # In DART's common start, and where its own branch is plain, a member has the run's.
    assert [recipe_of(dart, m, BASE, run, start) for m in range(2)] == [mixup, mixup]
    assert [recipe_of(dart, m, BASE, run, later) for m in range(2)] == [mixup, cutout]
    assert recipe_of(Lookaround(), 2, BASE, run, later) == cutout


class Branched(NaiveEnsemble):
    """The same, stated as a method."""

    def recipe(self, member, base, clock) -> Recipe:
        return [base, base.but(cutout=8)][member % 2]


@pytest.mark.parametrize("rule", [NaiveEnsemble(), Wash(WashOptions(p=0.1))])
def test_members_see_the_images_of_their_branch(rule: Method, tiny: RunConfig) -> None:
    training = tiny.training.model_copy(update={"train_limit": 96})
    with_branches = training.model_copy(update={"branches": ("plain", "cutout")})
    loops = [loop_of(with_branches, rule), loop_of(training, Branched()), loop_of(training, rule)]
    losses = [loop.epoch(0, lambda pulse: None) for loop in loops]
    weights = [loop.population.weights for loop in loops]
    if isinstance(rule, NaiveEnsemble):
        assert torch.equal(losses[0], losses[1])
        assert torch.equal(weights[0], weights[1])
        assert torch.equal(weights[0][0], weights[2][0])  # member 0 is plain
    assert not torch.equal(weights[0][1], weights[2][1])


@pytest.mark.slow
def test_the_records_tell_whose_images_are_not_the_runs(tiny: RunConfig, tmp_path: Path) -> None:
    branches = ("auto-augment", "cutout")
    training = tiny.training.model_copy(update={"train_limit": 96, "branches": branches})
    own = {"dart": {"branches": ["auto-augment", "cutmix"], "warmup": 0.0}}
    config = tiny.model_copy(update={"training": training, "set": own})
    names = ("wash", "dart")
    outcome = run_experiment(config, entries_of(*names), RunContext(out=tmp_path, threads=1))
    assert not outcome.failed
    summaries = {m: r["summary"] for (m, _), r in records_of(tmp_path).items()}
    assert "own_augmentation_share" not in summaries["wash"]
    assert summaries["dart"]["own_augmentation_share"] == 1 / 3  # member 1 of 0, 1, 2
    assert set(load([tmp_path]).summary["branches"]) == {"auto-augment,cutout"}


def test_base_recipes_are_those_of_the_run_without_branches(tiny: RunConfig) -> None:
    """Re-estimation of BatchNorm uses them, so that it is the same for all."""
    branched = tiny.training.model_copy(update={"branches": BRANCHES})
    assert TrainingSetup.of(branched).recipes(0) == TrainingSetup.of(tiny.training).recipes(0)


def test_an_unknown_branch_is_refused(capfd) -> None:
    code, _, shown = command(capfd, "run", "digits", "--branches", "plain,cutuot")
    assert code == 2
    assert "no branch 'cutuot': did you mean 'cutout'" in shown
    assert len(shown.splitlines()) == 1
