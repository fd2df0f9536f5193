"""Presets, preset files and options: who wins, and what is refused, each in one line."""

from __future__ import annotations

import pytest

from tests.support.images import class_folders
from wash_bench.config import DEFAULT_METHODS, EvaluationConfig, RunConfig, TrainingConfig
from wash_bench.config.field import PANELS
from wash_bench.errors import UsageError
from wash_bench.study.local import LocalConfig
from wash_bench.study.options import OPTIONS
from wash_bench.study.presets import preset_names
from wash_bench.study.provenance import chosen
from wash_bench.study.resolve import FRESH, resolve


def refused(preset=None, file=None, **options) -> str:
    with pytest.raises(UsageError) as caught:
        resolve(preset, file, options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("name", preset_names())
def test_every_preset_resolves_with_all_methods(name):
    resolved = resolve(name, None, {})
    assert resolved.config.preset == name
    assert resolved.config.methods == DEFAULT_METHODS
    assert [entry.name for entry in resolved.entries] == list(DEFAULT_METHODS)


@pytest.mark.parametrize(
    "name", ["cifar10-resnet18", "cifar10-vgg16", "cifar100-resnet18", "cifar100-vgg16"]
)
def test_cifar_presets_are_papas_published_settings(name):
    config = resolve(name, None, {}).config
    training = config.training
    dataset, network = name.split("-")
    assert training.dataset == dataset
    assert training.model == {"resnet18": "resnet18", "vgg16": "vgg16_bn"}[network]
    assert (training.population, training.epochs, training.batch_size) == (3, 300, 64)
    assert (training.optimizer, training.momentum, training.weight_decay) == ("sgd", 0.9, 1e-4)
    assert (training.schedule, training.lr, training.lr_min) == ("cosine", 0.1, 1e-4)
    assert (training.init, training.stem, training.val_share) == ("independent", "cifar", 0.02)
    assert config.set["papa"] == {"alpha": 0.99, "every": 10, "count": "epoch"}


@pytest.mark.parametrize(("name", "members"), [("finetune-vit", 4), ("finetune-resnet", 2)])
def test_fine_tuning_presets_are_papas_published_settings(name, members):
    config = resolve(name, None, {"dataset": "fashion-mini", "model": "test_resnet"}).config
    training = config.training
    assert (training.population, training.epochs, training.batch_size) == (members, 50, 64)
    assert (training.optimizer, training.weight_decay, training.amp) == ("adamw", 1e-4, "fp16")
    assert (training.schedule, training.lr, training.lr_min) == ("cosine", 1e-4, 1e-6)
    assert (training.image_size, training.val_share) == (224, 0.02) and training.checkpoint
    assert config.set["papa"] == {"alpha": 0.9995, "every": 10, "count": "epoch"}


def test_digits_is_the_default_and_options_win_over_it():
    default = resolve(None, None, {}).config
    assert default.preset == "digits"
    changed = resolve(None, None, {"epochs": "7", "seeds": "3,4", "lr": "0.025"}).config
    assert (changed.training.epochs, changed.seeds, changed.training.lr) == (7, (3, 4), 0.025)
    assert changed.training.batch_size == default.training.batch_size
    assert changed.set == default.set


def test_file_over_preset_and_options_over_file(tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text(
        'description = "x"\nmethods = ["wash", "papa"]\nbatch-size = 16\nepochs = 4\n'
        "lr_min = 0.001\n"
        'jobs = 2\nset.wash.p = 0.25\nmodel-arg = {drop_rate = 0.1, act_layer = "gelu"}\n'
    )
    options = {
        "epochs": "5",
        "set": ["wash.every=2"],
        "model_arg": ["drop_rate=0.2"],
        "methods": "wash",
    }
    resolved = resolve("cifar10-resnet18", file, options)
    config = resolved.config
    assert config.preset == "mine"
    assert config.training.model == "resnet18"  # from the preset
    assert (config.training.batch_size, config.training.lr_min) == (16, 0.001)  # from the file
    assert config.training.epochs == 5  # from the command line
    assert config.set == {"wash": {"p": 0.25, "every": 2}}  # merged; papa is left out silently
    assert config.training.model_args == {"drop_rate": 0.2, "act_layer": "gelu"}
    assert resolved.jobs == 2


def test_a_file_alone_starts_from_the_built_in_defaults(tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text("epochs = 4\n")
    config = resolve(None, file, {}).config
    assert config.training == TrainingConfig(epochs=4, **FRESH)
    assert resolve(None, file, {"coupling_budget": "given"}).config.set == {}


def test_every_field_is_a_setting_and_says_all_about_itself():
    by_resolving = {"preset", "coupling", "training", "evaluation", "members"}
    models = (RunConfig, TrainingConfig, EvaluationConfig, LocalConfig)
    fields = {name for model in models for name in model.model_fields} - by_resolving
    assert {item.name for item in OPTIONS.values()} == fields
    assert len(OPTIONS) == len(fields)  # no key stands twice
    for key, item in OPTIONS.items():
        assert key == item.key and item.of("panel") in PANELS, key
        assert item.help.endswith(".") and item.default, key
        assert item.switch or item.metavar, key
        if item.choices:
            assert item.default in item.choices, key
        for name in item.of("needs").split():
            assert OPTIONS[name].section == item.section, key


@pytest.mark.fault(
    "Options and presets",
    "values outside their bounds",
    "refused before training, with option, value and bound",
)
@pytest.mark.parametrize(
    ("options", "parts"),
    [
        ({"population": "1"}, ["--population 1", "at least 2"]),
        ({"epochs": "0"}, ["--epochs 0", "at least 1"]),
        ({"epochs": "ten"}, ["--epochs ten", "whole number"]),
        ({"lr": "nan"}, ["--lr nan", "finite"]),
        ({"lr": "-1"}, ["--lr -1", "above 0"]),
        ({"momentum": "1"}, ["--momentum 1", "at least 0 and below 1"]),
        ({"val_share": "1.5"}, ["--val-share 1.5", "above 0 and below 1"]),
        ({"lr": "1e-5", "lr_min": "1e-4"}, ["--lr-min", "0.0001", "1e-05"]),
        ({"amp": "bf61"}, ["--amp bf61", "'bf16'"]),
        ({"optimizer": "sdg"}, ["--optimizer sdg", "'sgd'"]),
        ({"milestones": "0.9,0.1"}, ["--milestones 0.9,0.1", "ascend"]),
        ({"seeds": "0,0"}, ["--seeds 0,0", "0 is given twice"]),
        ({"seeds": "0,,1"}, ["--seeds", "item is missing"]),
        ({"seeds": "-1"}, ["--seeds -1", "from 0"]),
        ({"seeds": "1.5"}, ["--seeds 1.5", "whole numbers"]),
        ({"methods": ""}, ["--methods", "item is missing"]),
        ({"methods": "wash,wash"}, ["wash is given twice"]),
        ({"methods": "wash,wahs"}, ["'wahs'", "'wash'"]),
        ({"set": ["wash.p=1.5"]}, ["wash.p=1.5", "[0, 1]"]),
        ({"set": ["wash.pp=0.5"]}, ["'pp'"]),
        ({"set": ["whas.p=0.5"]}, ["'whas'", "'wash'"]),
        ({"set": ["wash.p=0.5"], "methods": "papa"}, ["--set wash.p", "papa"]),
        ({"model": "resnet_18"}, ["'resnet_18'", "resnet18"]),
        ({"model_arg": ["drop_rate"]}, ["--model-arg drop_rate", "key=value"]),
        ({"dataset": "cifra10"}, ["'cifra10'", "'cifar10'"]),
        ({"dataset": "folder:/no/such/place"}, ["/no/such/place"]),
        ({"device": "cdua"}, ["'cdua'", "'cuda'"]),
        ({"batch_size": "1401"}, ["--batch-size 1401", "1400"]),
        ({"train_limit": "40", "batch_size": "41"}, ["--batch-size 41", "40"]),
        ({"jobs": "0"}, ["--jobs 0", "at least 1"]),
        ({"threads": "many"}, ["--threads many", "between 0 and 1024"]),
    ],
)
def test_a_bad_option_is_named_with_its_value_and_the_fix(options, parts):
    message = refused(**options)
    for part in parts:
        assert part in message


@pytest.mark.fault(
    "Options and presets",
    "a preset file with unknown keys, wrong types or no TOML",
    "one line with key, file and fix",
)
@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("epchs = 3", ["'epchs'", "mine.toml", "'epochs'"]),
        ("epochs = 0", ["epochs = 0 in", "mine.toml", "at least 1"]),
        ("seeds = [1, 1]", ["mine.toml", "1 is given twice"]),
        ("seeds = []", ["mine.toml", "item is missing"]),
        ("batch-size = 1\nbatch_size = 2", ["mine.toml", "twice"]),
        ("set.whas.p = 1", ["'whas'", "mine.toml", "'wash'"]),
        ("set.wash.p = 7", ["wash.p=7"]),
        ("set.wash = 7", ["set.wash", "mine.toml"]),
        ("download = 3", ["download = 3", "true or false"]),
        ("a = = 1", ["mine.toml", "TOML"]),
        ("preset-file = 'x.toml'", ["preset-file", "mine.toml"]),
        ("epochs = " + "[" * 100_000, ["mine.toml", "nested too deeply"]),
        ("model-arg = {qkv_bias = 'False'}", ["qkv_bias=False", "without quotes"]),
    ],
)
def test_a_bad_preset_file_is_named(tmp_path, text, parts):
    file = tmp_path / "mine.toml"
    file.write_text(text)
    message = refused(file=file)
    for part in parts:
        assert part in message


@pytest.mark.fault(
    "Options and presets", "a preset file with a byte-order mark", "read as without it"
)
@pytest.mark.parametrize("ending", ["\n", "\r\n"])
def test_a_preset_of_an_editor_of_windows_is_read(tmp_path, ending):
    file = tmp_path / "mine.toml"
    text = ending.join(["# mine", "epochs = 7", "model-arg = {qkv_bias = false}"])
    file.write_bytes(b"\xef\xbb\xbf" + text.encode())
    training = resolve(None, file, {}).config.training
    assert (training.epochs, training.model_args) == (7, {"qkv_bias": False})


@pytest.mark.fault(
    "Options and presets", "values in Python's words, as False and (1, 2)", "their values"
)
def test_arguments_of_a_model_have_pythons_and_tomls_types():
    given = ["a=False", "b=true", "c=None", "d=(1, 2)", "e=gelu", "f=0.5", "g='False'"]
    expected = {"a": False, "b": True, "c": None, "d": [1, 2], "e": "gelu", "f": 0.5, "g": "False"}
    assert resolve(None, None, {"model_arg": given}).config.training.model_args == expected


def test_unknown_presets_and_missing_files(tmp_path):
    assert "'digits'" in refused(preset="digit")
    assert "--preset-file mine.toml" in refused(preset="mine.toml")
    assert "absent.toml" in refused(file=tmp_path / "absent.toml")


METHOD = """
from wash_bench.methods.naive_ensemble import NaiveEnsemble

class Mine(NaiveEnsemble):
    name = "mine"
    rule = paper = sends = "nothing"
"""


def test_a_method_file_stands_beside_the_others_or_alone(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(METHOD)
    spec = f"{file}:Mine"
    beside = resolve(None, None, {"methods": "wash", "method": [spec]})
    assert beside.config.methods == ("wash", "mine")
    assert beside.entries[1].load().name == "mine"
    assert resolve(None, None, {"methods": spec}).config.methods == ("mine",)
    assert "given twice" in refused(method=[spec, spec])


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("epochs = true", ["epochs = True in", "mine.toml", "true or false"]),
        ("lr = false", ["lr = False in", "mine.toml"]),
        ("set = 3", ["set in ", "mine.toml", "set.METHOD.OPTION"]),
        ("set = [3]", ["method.option=value"]),
        ("out = ['a']", ["out = a in", "mine.toml", "a text"]),
        ("data-dir = 3", ["data-dir = 3 in", "must be a text"]),
        ("set.wash.p = 7", ["wash.p=7", "in ", "mine.toml"]),
        ("set.wash.pp = 0.5", ["'pp'", "in ", "mine.toml"]),
    ],
)
def test_values_of_the_wrong_type_are_refused_and_their_file_named(tmp_path, text, parts):
    file = tmp_path / "mine.toml"
    file.write_text(text)
    message = refused(file=file)
    for part in parts:
        assert part in message


def test_an_option_is_not_blamed_on_a_file_that_is_right(tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text("set.wash.p = 0.5")
    assert "mine.toml" not in refused(file=file, set=["wash.p=7"])


@pytest.mark.parametrize("missing", ["train", "val"])
def test_a_folder_without_train_or_val_is_refused_at_once(tmp_path, missing):
    (tmp_path / ({"train", "val"} - {missing}).pop()).mkdir()
    for options in (
        {"dataset": f"folder:{tmp_path}"},
        {"dataset": "imagenet", "data_dir": str(tmp_path)},
    ):
        message = refused(**options)
        assert f"no folder {tmp_path / missing}" in message


def test_both_rates_are_called_by_their_options():
    assert refused(lr="1e-9").startswith("--lr-min (0.0001) is above --lr (1e-09)")


@pytest.mark.parametrize("given", [{"dataset": "fashion-mini"}, {"dataset": "folder:X"}])
def test_the_digits_preset_holds_for_digits_alone(given, tmp_path, monkeypatch):
    class_folders(tmp_path / "X", 70, 8, 8, test_count=4)
    monkeypatch.chdir(tmp_path)
    resolved = resolve(None, None, given)
    assert resolved.config.preset == "none"
    assert resolved.config.training == TrainingConfig(**FRESH, **given)
    assert "built-in defaults and the methods' own; then --dataset." in resolved.origin
    assert resolve(None, None, {"dataset": "digits"}).config == resolve("digits", None, {}).config


def test_where_the_settings_come_from_is_one_line(tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text("epochs = 4\n")
    told = resolve("digits", file, {"lr": "0.1", "out": "x", "jobs": "2"}).origin
    assert told == f"Settings: preset digits; then {file}; then --lr."
    told = resolve("digits", None, {"dataset": "fashion-mini"}).origin
    assert "preset digits (made for digits, not for fashion-mini); then --dataset." in told
    told = resolve(None, None, {"dataset": "fashion-mnist"}).origin
    _, _, names = told.partition(" Presets made for fashion-mnist: ")
    of_fashion = [
        n for n in preset_names() if resolve(n, None, {}).config.training.dataset == "fashion-mnist"
    ]
    assert names == f"{', '.join(of_fashion)}." and len(of_fashion) > 1


def test_a_stem_or_a_size_that_was_chosen_is_told():
    small = TrainingConfig(dataset="fashion-mini", model="resnet18", image_size=32)
    assert chosen(small) == (
        "Trains resnet18 with the papers' stem for small images (--stem keep: timm's own) on "
        "fashion-mini at 32 px (resized from its 28), N = 3."
    )
    assert "stem" not in chosen(small.model_copy(update={"stem": "keep"}))
    assert chosen(TrainingConfig(dataset="digits", model="test_vit")).endswith("at 8 px, N = 3.")
