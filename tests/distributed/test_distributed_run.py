"""A population spread over 2 and 3 processes trains as it does in one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.support.ranks import in_ranks
from tests.support.runs import stop_after_an_epoch
from wash_bench.config import RunConfig
from wash_bench.distributed.ranks import DistributedWorld
from wash_bench.errors import UsageError
from wash_bench.plugins.registry import find_method
from wash_bench.runner.context import RunContext
from wash_bench.runner.experiment import run_experiment

pytestmark = pytest.mark.slow

METHODS = ("wash", "wash-opt", "papa", "dart", "greedy-soup", "naive-ensemble")
EXACT = ("wash", "wash-opt", "independent")  # no sums across members


@pytest.fixture(scope="module")
def config(tiny_module: RunConfig) -> RunConfig:
    training = tiny_module.training.model_copy(update={"train_limit": 96, "init": "independent"})
    options = {"wash": {"p": 0.1}, "wash-opt": {"p": 0.1}, "dart": {"every": 1, "warmup": 0.0}}
    update = {"training": training, "set": options, "merge_every": 1}
    return tiny_module.model_copy(update=update)


def _run(config: RunConfig, methods: tuple[str, ...], out: Path, **context) -> list[str]:
    entries = [find_method(name) for name in methods]
    outcome = run_experiment(config, entries, RunContext(out=out, threads=1, **context))
    assert not outcome.failed
    return outcome.finished


def _rank(config: RunConfig, methods: tuple[str, ...], out: Path) -> list[str]:
    return _run(config, methods, out, world=DistributedWorld())


def _members(out: Path) -> dict[str, dict[str, torch.Tensor]]:
    found: dict[str, dict[str, torch.Tensor]] = {}
    for path in sorted(out.glob("trainings/*/state-*/member-*.safetensors")):
        tensors = {f"{path.stem}/{name}": tensor for name, tensor in load_file(path).items()}
        found.setdefault(path.parts[-3], {}).update(tensors)
    return found


def _told(events: Path) -> list[dict]:
    """The events, but for those that sum over members in the collective's order."""
    rows = [json.loads(line) for line in events.read_text().splitlines()]
    return [row for row in rows if not row.get("metric", "").startswith("consensus")]


def _summaries(out: Path) -> dict[str, dict]:
    records = [json.loads(path.read_text()) for path in out.glob("cells/*.json")]
    return {record["method"]: record["summary"] for record in records}


@pytest.fixture(scope="module")
def alone(config: RunConfig, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("alone")
    assert len(_run(config, METHODS, out)) == 6
    return out


@pytest.mark.parametrize("ranks", [2, 3])
def test_same_members_and_records(
    config: RunConfig, alone: Path, tmp_path: Path, ranks: int
) -> None:
    finished = in_ranks(ranks, _rank, config, METHODS, tmp_path)
    assert all(ids == finished[0] for ids in finished)
    assert len(finished[0]) == 6
    expected, found = _members(alone), _members(tmp_path)
    assert expected.keys() == found.keys()
    for training, tensors in expected.items():
        assert tensors.keys() == found[training].keys()
        for name, tensor in tensors.items():
            other = found[training][name]
            if training.startswith(EXACT):
                assert torch.equal(tensor, other), (training, name)
            else:
                torch.testing.assert_close(tensor, other, rtol=2e-3, atol=2e-4)
    ours, theirs = _summaries(alone), _summaries(tmp_path)
    for method, summary in ours.items():
        for key in ("sent_values_total", "wire_bytes_total", "parameters", "steps"):
            assert summary[key] == theirs[method][key], (method, key)
        assert theirs[method]["ranks"] == ranks
    assert ours["wash"]["average_acc"] == theirs["wash"]["average_acc"]
    for events in tmp_path.glob("trainings/wash-*/events.jsonl"):
        assert _told(events) == _told(alone / events.relative_to(tmp_path))


@pytest.mark.fault(
    "Kills and stops", "a run in one process, killed, resumed over two", "the bits of a run in one"
)
def test_resumed_with_another_number_of_processes(
    config: RunConfig, alone: Path, tmp_path: Path
) -> None:
    """One epoch in one process, killed; the rest over two: the bits of a run in one."""
    script_config = config.model_copy(update={"checkpoint_every": "1"})
    stop_after_an_epoch(script_config, [find_method("wash-opt")], tmp_path)
    assert list(tmp_path.glob("trainings/*/state-1/optimizer-2.safetensors"))
    in_ranks(2, _rank, config, ("wash-opt",), tmp_path)
    ((training, tensors),) = _members(tmp_path).items()
    for name, tensor in _members(alone)[training].items():
        assert torch.equal(tensor, tensors[name]), name


def _refused(config: RunConfig, out: Path) -> str:
    world = DistributedWorld()
    training = config.training.model_copy(update={"lr": 0.1 + 0.1 * world.rank})
    other = config.model_copy(update={"training": training})
    try:
        run_experiment(other, [find_method("papa")], RunContext(out=out, world=world))
    except UsageError as error:
        return str(error)
    return ""


def test_another_configuration_on_a_rank_is_refused(config: RunConfig, tmp_path: Path) -> None:
    answers = in_ranks(2, _refused, config, tmp_path)
    assert all(answer.startswith("rank 1 has lr 0.2 and rank 0 has 0.1: ") for answer in answers)
    assert not list(tmp_path.glob("cells/*"))
