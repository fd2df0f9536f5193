"""A setting is one field: its option, its place in identities and reports, its row in the docs."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from wash_bench.cli.app import app
from wash_bench.config import EvaluationConfig, RunConfig, TrainingConfig
from wash_bench.config.field import TRAINING, settings_of
from wash_bench.config.field import setting as field
from wash_bench.config.values import VARIED
from wash_bench.errors import UsageError
from wash_bench.report.read.columns import LATER_SETTING_COLUMNS
from wash_bench.study.local import LocalConfig
from wash_bench.study.options import OPTIONS
from wash_bench.study.resolve import local_config

ROOT = Path(__file__).parents[2]


def options_of(command: str) -> str:
    result = CliRunner().invoke(app, [command, "--help"], env={"COLUMNS": "220", "NO_COLOR": "1"})
    assert result.exit_code == 0
    return " ".join(result.output.replace("│", " ").split())


def test_the_docs_list_the_settings_as_they_are():
    page = (ROOT / "docs/settings.md").read_text()
    missing = [item.flag for item in OPTIONS.values() if f"| `{item.flag}` | " not in page]
    assert not missing, "docs/settings.md is out of date: run make pages"


@pytest.mark.parametrize(
    ("command", "keys"),
    [
        ("comm", "model_arg stem population methods set optimizer"),
        ("paper-table", "data_dir download device jobs threads worker retry_failed"),
    ],
)
def test_other_commands_take_settings_as_they_are(command, keys):
    text = options_of(command)
    for key in keys.split():
        assert f" {OPTIONS[key].flag} " in text
        assert OPTIONS[key].help[:-2] in text


def test_a_command_says_where_its_default_is_another():
    assert "(see wash-bench models; default: resnet18)." in options_of("comm")
    text = options_of("paper-table")
    assert "default: runs/paper-SCALE)" in text and text.count("default: the table's)") == 3


def test_a_further_field_is_a_setting_of_all_layers():
    """What a setting of a later version takes: one field."""

    class Later(TrainingConfig):
        smoothing: float = field(0.0, TRAINING, "SHARE", identity="later", ge=0, lt=1)
        """Share of the labels."""

    (new,) = [item for item in settings_of(Later) if item.name == "smoothing"]
    assert (new.flag, new.help, new.default) == ("--smoothing", "Share of the labels.", "0")
    assert Later().identity() == TrainingConfig().identity()
    assert Later(smoothing=0.5).identity() == TrainingConfig().identity() | {"smoothing": 0.5}


def test_identities_leave_out_what_came_later_and_what_does_not_matter():
    """Of what counts always, the pinned identities of record/test_golden.py are the judge."""
    training = TrainingConfig().identity()
    kinds: dict[str, set[str]] = {}
    for item in settings_of(TrainingConfig):
        kinds.setdefault(item.of("identity"), set()).add(item.name)
    assert kinds["later"] == set(LATER_SETTING_COLUMNS)
    assert training.keys() == {*kinds["always"]}
    assert TrainingConfig(data_dir="there", warmup=2.5).identity() == training | {"warmup": 2.5}
    assert RunConfig(seeds=(3,), checkpoint_every=7).identity() == {"eval_every": 1}
    evaluation = EvaluationConfig().identity()
    assert EvaluationConfig(simplex_margin=0.5).identity() == evaluation
    maps = {"simplex_points": 5, "simplex_margin": 0.0}
    assert EvaluationConfig(simplex_points=5).identity() == evaluation | maps
    assert LocalConfig(jobs=3).identity() == {}


def test_what_may_vary_is_named_in_the_help():
    assert ", ".join(VARIED) in OPTIONS["vary"].help


def test_local_settings_are_read_from_text_and_refused_in_one_line():
    local = local_config({"jobs": "3", "shard": "2/5", "out": "~/x", "worker": None})
    assert (local.jobs, local.shard, local.out) == (3, (2, 5), Path("~/x").expanduser())
    for given, line in (
        ({"jobs": "0"}, "--jobs 0: must be a whole number, at least 1"),
        ({"shard": "3/2"}, "--shard 3/2: write it as i/k with i from 1 to k, as 1/3, 2/3 and 3/3"),
        ({"worker": True, "procs": "2"}, "--worker takes one training at a time, in one process"),
    ):
        with pytest.raises(UsageError) as caught:
            local_config(given)
        assert str(caught.value).startswith(line)


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        ("run --optimizer a", {"adamw"}),
        ("run dig", {"digits"}),
        ("run --methods wash,papa-", {"wash,papa-2", "wash,papa-all"}),
        ("run --methods wash+sw", {"wash+swa", "wash+swad"}),
        ("run --set papa.al", {"papa.alpha="}),
        ("plan --model resnet18", {"resnet18", "resnet18d"}),
        ("run --dataset fash", {"fashion-mini", "fashion-mnist"}),
        ("methods wash-", {"wash-opt"}),
        ("check wash-", {"wash-opt"}),
        ("presets dig", {"digits"}),
        ("paper-table ablation-pa", {"ablation-papa"}),
    ],
)
def test_names_complete(words: str, offered: set[str]):
    environment = {
        "_WASH_BENCH_COMPLETE": "complete_bash",
        "COMP_WORDS": f"wash-bench {words}",
        "COMP_CWORD": str(len(words.split())),
    }
    result = CliRunner().invoke(app, [], prog_name="wash-bench", env=environment)
    assert set(result.output.split()) == offered
