"""A barrier costs a tenth of the training by default, and what was asked for where it was."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wash_bench.config import EvaluationConfig
from wash_bench.study.barrier_budget import KEYS, LADDER
from wash_bench.study.presets import find_preset, preset_names
from wash_bench.study.resolve import resolve

FULL = tuple(getattr(EvaluationConfig(), key) for key in KEYS)
SMALL = {"dataset": "fashion-mnist", "train_limit": "500", "epochs": "2"}


def barrier_of(resolved) -> tuple[int, ...]:
    return tuple(getattr(resolved.config.evaluation, key) for key in KEYS)


@settings(max_examples=60, deadline=None)
@given(
    n=st.integers(2, 10),
    epochs=st.integers(1, 400),
    images=st.integers(100, 50_000),
    chosen=st.dictionaries(st.sampled_from(KEYS), st.integers(3, 3000), max_size=2),
)
def test_it_is_the_fullest_within_a_tenth_of_the_training(n, epochs, images, chosen):
    options = {"dataset": "fashion-mnist", "population": n, "epochs": epochs}
    resolved = resolve(None, None, options | {"train_limit": images} | chosen)
    budget = 0.1 * 3 * n * epochs * images  # a step costs three forward passes an image

    def cost(points: int, at_point: int, bn: int) -> float:
        segments = math.comb(n, 2) + n
        return (n + 1 + segments * (points - 2)) * (2 * at_point + bn)

    rungs = [
        tuple(chosen.get(key, value) for key, value in zip(KEYS, rung, strict=True))
        for rung in LADDER
    ]
    fits = [rung for rung in rungs if cost(*rung) <= budget]
    assert barrier_of(resolved) == (fits[0] if fits else rungs[-1])
    reduced = barrier_of(resolved) != rungs[0]
    assert ("within a tenth of the training" in resolved.origin) == reduced
    if reduced:  # what is said to be in full is so
        flags = dict(zip(KEYS, FULL, strict=True)) | chosen
        whole = resolve(None, None, options | {"train_limit": images} | flags)
        assert barrier_of(whole) == rungs[0]
        assert "tenth" not in whole.origin


@pytest.mark.parametrize("name", preset_names())
def test_presets_of_the_package_have_their_own(name):
    own = find_preset(name).values
    expected = tuple(own.get(key, full) for key, full in zip(KEYS, FULL, strict=True))
    assert barrier_of(resolve(name, None, {"epochs": 6})) == expected


def test_a_file_of_ones_own_can_give_them(tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text("barrier-points = 9\nbarrier-images = 70\nbarrier-bn-images = 80\n")
    assert barrier_of(resolve(None, file, SMALL)) == (9, 70, 80)
    file.write_text("")
    assert barrier_of(resolve(None, file, SMALL)) == LADDER[-1]
