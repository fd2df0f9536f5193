"""Distillation against the same training written out in plain torch."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from tests.support.runs import entries_of, records_of
from wash_bench.config import RunConfig
from wash_bench.report.read.frames import load
from wash_bench.report.tables.notes import students
from wash_bench.runner.context import RunContext
from wash_bench.runner.experiment import run_experiment
from wash_bench.runner.training_setup import TrainingSetup
from wash_bench.seeds import derive


def run(config: RunConfig, out: Path, *names: str, **context: object) -> None:
    outcome = run_experiment(config, entries_of(*names), RunContext(out=out, threads=1, **context))
    assert not outcome.failed


def delivered(out: Path) -> dict[str, torch.Tensor]:
    (path,) = (out / "trainings").glob("*/network-*distill-*.safetensors")
    return load_file(path)


def in_plain_torch(config: RunConfig, out: Path, temperature: float, epochs: int) -> nn.Module:
    """A student from the first member's weights, one tensor and one class at a time."""
    setting, training = TrainingSetup.of(config.training), config.training
    teachers = []
    for path in sorted((out / "trainings").glob("*/state-*/member-*.safetensors")):
        teachers.append(copy.deepcopy(setting.network(0, 0)).eval())
        teachers[-1].load_state_dict(load_file(path))
    assert len(teachers) == training.population
    student = setting.network(0, 0).train()
    optimizer = torch.optim.SGD(
        student.parameters(), lr=1.0, momentum=0.9, weight_decay=training.weight_decay
    )
    shorter = training.model_copy(update={"epochs": epochs})
    schedule = TrainingSetup(shorter, setting.device, setting.data).schedule
    stream, step = derive(0, "student"), 0
    for epoch in range(epochs):
        batches = setting.data.epoch_batches(
            stream, 0, epoch, training.batch_size, setting.data.recipe
        )
        for batch in batches:
            with torch.no_grad():
                targets = sum(
                    torch.softmax(teacher(batch.images) / temperature, dim=1)
                    for teacher in teachers
                ) / len(teachers)
            log_probs = torch.log_softmax(student(batch.images) / temperature, dim=1)
            loss = -sum(
                (targets[:, c] * log_probs[:, c]).mean() for c in range(targets.shape[1])
            ) * temperature**2  # fmt: skip
            optimizer.zero_grad()
            loss.backward()
            optimizer.param_groups[0]["lr"] = schedule.at(step)
            optimizer.step()
            step += 1
    return student


@pytest.mark.parametrize(("temperature", "share", "epochs"), [(1.0, 1.0, 2), (3.0, 0.5, 1)])
def test_the_student_is_that_of_plain_torch(
    temperature: float, share: float, epochs: int, tiny: RunConfig, tmp_path: Path
) -> None:
    options = {"temperature": temperature, "epochs": share}
    training = tiny.training.model_copy(update={"population": 2, "train_limit": 128})
    config = tiny.model_copy(update={"set": {"distill": options}, "training": training})
    run(config, tmp_path, "distill", "naive-ensemble")
    ours, student = delivered(tmp_path), in_plain_torch(config, tmp_path, temperature, epochs)
    start = TrainingSetup.of(training).network(0, 0).state_dict()
    assert not torch.allclose(ours["fc.weight"], start["fc.weight"], atol=1e-3)
    for name, tensor in student.state_dict().items():
        torch.testing.assert_close(ours[name], tensor, rtol=1e-3, atol=1e-4, msg=name)
    summary = records_of(tmp_path)["distill", 0]["summary"]
    assert summary["student_steps"] == epochs * 4
    assert 0 < summary["student_seconds"] <= summary["merge_seconds"]
    assert summary["steps"] == 2 * 4
    other = records_of(tmp_path)["naive-ensemble", 0]
    assert "student_steps" not in other["summary"]  # and the two share one training
    assert other["training_id"] == records_of(tmp_path)["distill", 0]["training_id"]
    (line,) = students(load([tmp_path]).summary)
    assert line.startswith(f"distill trains one more network after the population: {epochs * 4} ")


@pytest.mark.slow
def test_it_is_the_same_again_and_tells_its_progress(tiny: RunConfig, tmp_path: Path) -> None:
    training = tiny.training.model_copy(update={"train_limit": 128})
    config = tiny.model_copy(
        update={"training": training, "set": {"wash+distill": {"distill": {"start": "fresh"}}}}
    )
    told = []
    run(config, tmp_path / "a", "wash+distill", observer=told.append)
    run(config, tmp_path / "b", "wash+distill")
    one, other = delivered(tmp_path / "a"), delivered(tmp_path / "b")
    assert all(torch.equal(one[name], other[name]) for name in one)
    steps = [(p.step, p.steps) for p in told if p.status == "evaluating"]
    assert steps[-2:] == [(4, 8), (8, 8)]
    first = tiny.model_copy(update={"training": training})
    run(first, tmp_path / "c", "wash+distill")
    assert not torch.equal(delivered(tmp_path / "c")["fc.weight"], one["fc.weight"])


@pytest.mark.slow
def test_networks_that_were_trained_elsewhere_have_no_student(
    tiny: RunConfig, tmp_path: Path, capfd
) -> None:
    from wash_bench.cli.main import run_command

    run(tiny, tmp_path / "a", "naive-ensemble")
    members = sorted((tmp_path / "a/trainings").glob("*/state-*/member-*.safetensors"))
    arguments = ["merge", *map(str, members), "--dataset", "digits", "--val-share", "0.1"]
    arguments += ["--methods", "distill", "--out", str(tmp_path / "b"), "--threads", "1"]
    assert run_command([*arguments, "--barrier-points", "3", "--no-report"]) == 1
    assert "these networks were trained elsewhere: leave it out" in capfd.readouterr().err
