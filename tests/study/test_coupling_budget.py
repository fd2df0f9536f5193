"""--rescale-coupling: closed forms, caps, and what the record and the plan tell."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wash_bench.config import TrainingConfig
from wash_bench.core.budget import Budget
from wash_bench.data.sizes import steps_per_epoch
from wash_bench.methods.dart import Dart, DartOptions
from wash_bench.methods.ema import Ema
from wash_bench.methods.naive_ensemble import NaiveEnsemble
from wash_bench.methods.papa import Papa, PapaOptions
from wash_bench.methods.papa_all import PapaAll
from wash_bench.methods.wash import Wash, WashOptions
from wash_bench.plugins.registry import make_method
from wash_bench.study.coupling import DEFAULT_REFERENCE, in_words, reference, unscaled
from wash_bench.study.resolve import Resolved, resolve

PAPER_STEPS = 300 * 766  # CIFAR: 49,000 images in batches of 64, 300 epochs


def budget(steps: int, epochs: int = 10) -> Budget:
    return Budget(steps, epochs, PAPER_STEPS, 300)


def resolved(methods: str, preset: str = "digits", **options: object) -> Resolved:
    return resolve(preset, None, {"methods": methods, "coupling_budget": "paper", **options})


@given(p=st.floats(1e-6, 1), steps=st.integers(1, 10**6))
def test_wash_keeps_p_times_steps_up_to_1(p: float, steps: int) -> None:
    result = Wash(WashOptions(p=p)).scaled(budget(steps))
    assert result.options["p"] == pytest.approx(min(1, p * PAPER_STEPS / steps))
    assert bool(result.limited) == (p * PAPER_STEPS / steps > 1)


def cosine(share: float) -> float:
    return 1e-3 + (1 - 1e-3) * (1 + math.cos(math.pi * share)) / 2


def kept(alpha: float, every: int, steps: int, rates=cosine) -> float:
    """Log of what is left of a deviation, pull by pull (a first one of 1 would leave nothing)."""
    pulls = ((1 - alpha) * rates(step / steps) for step in range(every, steps, every))
    return sum(math.log(max(1e-12, 1 - pull)) for pull in pulls)


@given(alpha=st.floats(0.5, 0.999), every=st.integers(1, 50), steps=st.integers(2000, 50_000))
def test_papa_keeps_the_product_of_its_contractions(alpha: float, every: int, steps: int) -> None:
    lengths = Budget(steps, 10, PAPER_STEPS, 300, cosine, cosine)
    result = Papa(PapaOptions(alpha=alpha, every=every)).scaled(lengths)
    scaled = PapaOptions(**result.options)  # within the options' limits
    before, after = kept(alpha, every, PAPER_STEPS), kept(scaled.alpha, scaled.every, steps)
    if result.limited:
        assert (scaled.alpha, scaled.every) == (0, 1)
        assert before < after
        return
    assert after == pytest.approx(before, rel=0.05)
    # The period stays where a pull of 1 can carry it, else it is the longest that can.
    if scaled.every < every:
        assert kept(0.0, scaled.every + 1, steps) > 1.05 * before


def test_papas_published_setting_contracts_by_exp_115() -> None:
    assert kept(0.99, 10, PAPER_STEPS) == pytest.approx(-115, abs=1)
    lengths = Budget(2880, 180, PAPER_STEPS, 300, cosine, cosine)
    found = Papa(PapaOptions(alpha=0.99, every=10)).scaled(lengths).options
    assert found["every"] == 10
    # The mean over a cosine of log(1 - f b) is 2 log((1 + sqrt(1 - b))/2).
    root = 2 * math.exp(-115.2 / (2 * 288)) - 1
    assert found["alpha"] == pytest.approx(root**2, abs=0.01)


def test_a_pull_that_does_not_follow_the_rate_is_a_power() -> None:
    lengths = Budget(PAPER_STEPS // 10, 30, PAPER_STEPS, 300, cosine, cosine)
    papa = Papa(PapaOptions(alpha=0.99, every=10, lr_scaling="none"))
    assert papa.scaled(lengths).options["alpha"] == pytest.approx(0.99**10)


def test_dart_and_papa_all_keep_their_period_as_a_share() -> None:
    for method in (Dart(DartOptions(every=30)), PapaAll(PapaAll.Options(every=30))):
        assert method.scaled(budget(1000, epochs=20)).options == {"every": 2}
        short = method.scaled(budget(1000, epochs=2))
        assert short.options == {"every": 1}
        assert "0.2 epochs" in short.limited


def test_a_wrapper_scales_what_is_inside_and_independent_members_nothing() -> None:
    inside = Wash(WashOptions(p=0.001))
    assert Ema(None, inside).scaled(budget(2000)) == inside.scaled(budget(2000))
    assert NaiveEnsemble().scaled(budget(10)).options == {}


def test_who_has_no_coupling_is_not_told_to_be_unscaled() -> None:
    names = "naive-ensemble,greedy-soup,ema,fisher,local-sgd,local-sgd+ema,papa+greedy-soup"
    found = resolved(names, coupling_budget="paper")
    assert unscaled(found.entries, found.config.coupling) == ["local-sgd", "local-sgd+ema"]


def test_at_the_papers_length_nothing_changes() -> None:
    methods = "wash,wash-opt,papa,dart"
    plain = resolve("cifar10-resnet18", None, {"methods": methods})
    scaled = resolved(methods, "cifar10-resnet18")
    for entry in plain.entries:
        of_plain, of_scaled = (
            make_method(entry, run.config.set.get(entry.name, {})).settings()
            for run in (plain, scaled)
        )
        assert of_plain == of_scaled
        told = scaled.config.coupling[entry.name]
        assert told["paper"] == told["scaled"] and not told["limited"]
        assert told["steps"] == told["paper_steps"] == PAPER_STEPS


def test_a_presets_own_coupling_gives_way_and_its_other_options_stay() -> None:
    config = resolved("wash,papa,dart").config
    assert config.set["wash"] == {"p": pytest.approx(0.001 * PAPER_STEPS / 400)}  # preset: p = 0.1
    papa = config.set["papa"]  # exp(-115) in 400 steps: not by a pull every ten
    assert papa["every"] < 10
    assert kept(papa["alpha"], papa["every"], 400) == pytest.approx(-115, rel=0.05)
    assert config.set["dart"] == {"branches": "plain", "warmup": 0.5, "every": 1, "cutout": 4}


def test_what_is_set_is_read_as_of_the_papers_training(tmp_path: Path) -> None:
    given_p = resolved("wash+ema", set=["wash.p=0.0001"]).config
    assert given_p.set["wash+ema"]["p"] == pytest.approx(0.0001 * PAPER_STEPS / 400)
    own = tmp_path / "own.toml"
    own.write_text('dataset = "digits"\nepochs = 10\nbatch-size = 32\n[set.wash]\np = 0.0002\n')
    options = {"methods": "wash", "coupling_budget": "paper"}
    config = resolve(None, own, options).config
    told = config.coupling["wash"]
    assert told["paper"] == {"p": 0.0002}
    assert told["scaled"]["p"] == pytest.approx(0.0002 * PAPER_STEPS / told["steps"])


def test_imagenet_is_measured_by_its_own_preset() -> None:
    assert reference("imagenet") == "imagenet-resnet50" != reference("cifar100")
    config = resolved("wash", "imagenet-resnet50", epochs=45).config
    told = config.coupling["wash"]
    assert told["paper"] == {"p": 0.05} and told["scaled"] == {"p": pytest.approx(0.1)}
    assert told["paper_steps"] == 90 * 4905


def test_the_record_shows_both_and_the_identity_is_that_of_the_scaled_options() -> None:
    cell = resolved("wash,papa", seeds="0").cells()[0]
    method = cell.spec.make()
    record = json.loads(json.dumps(cell.record(cell.config, method.settings())))
    assert list(record["coupling"]) == ["wash"]
    told = record["coupling"]["wash"]
    assert told["paper"] == {"p": 0.001} and told["reference"] == DEFAULT_REFERENCE
    assert told["scaled"]["p"] == record["set"]["wash"]["p"] == method.settings()["p"]
    by_hand = resolve("digits", None, {"methods": "wash", "set": [f"wash.p={told['scaled']['p']}"]})
    assert by_hand.cells()[0].ids == cell.ids
    assert in_words(told) == (
        "p=0.001 over 229,800 steps (cifar10-resnet18), scaled to p=0.5745 over 400"
    )


def test_the_plan_tells_it(capsys: pytest.CaptureFixture[str]) -> None:
    from wash_bench.cli.main import run_command

    options = ["digits", "--methods", "dart,easgd", "--seeds", "0", "--epochs", "1"]
    run_command(["plan", *options, "--train-limit", "64", "--rescale-coupling"])
    text = " ".join(capsys.readouterr().out.split())
    assert "coupling of dart: every=5 over 229,800 steps (cifar10-resnet18), scaled to every=1" in (
        text
    )
    assert "not kept: every would have to be 0.017 epochs and stays at 1" in text
    assert "does not say how it scales: easgd" in text


@pytest.mark.parametrize(
    "settings",
    [
        {"dataset": "digits", "batch_size": 32, "val_share": 0.1},
        {"dataset": "digits", "batch_size": 1},
        {"dataset": "digits", "train_limit": 129, "batch_size": 32},
        {"dataset": "digits", "classes": "0-4", "batch_size": 50},
        {"dataset": "fashion-mini", "batch_size": 64, "val_share": 0.33},
    ],
)
def test_steps_are_counted_as_the_data_have_them(settings: dict[str, object]) -> None:
    import torch

    from wash_bench.data.load import load_data

    config = TrainingConfig(**settings)
    data = load_data(config, torch.device("cpu"))
    assert steps_per_epoch(config) == data.steps_per_epoch(config.batch_size)
    assert math.isclose(data.train_size / config.batch_size, steps_per_epoch(config), abs_tol=1.01)
