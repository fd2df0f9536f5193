"""What only a CUDA device can show; skipped where there is none (`make gpu` runs it)."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from tests.support.fine_tuning import saved
from tests.support.runs import (
    SET,
    assert_same_bits,
    entries_of,
    populations_of,
    stop_after_an_epoch,
)
from tests.support.training_loop import loop_of
from wash_bench.config import DEFAULT_METHODS, RunConfig, TrainingConfig
from wash_bench.core.population import Population
from wash_bench.core.step_info import Schedule
from wash_bench.data.load import load_data
from wash_bench.data.recipe import Recipe
from wash_bench.data.source import Batch
from wash_bench.errors import UsageError, WashBenchError
from wash_bench.plugins.registry import find_method, make_method
from wash_bench.runner.context import RunContext
from wash_bench.runner.experiment import run_experiment
from wash_bench.train.graph import WARM_UP, GraphEngine
from wash_bench.train.loop import Loop

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]

# Smooth activations: at a ReLU's kink one rounding is a gradient of another norm.
FAMILIES = {
    "resnet": {"model": "test_resnet", "model_args": {"act_layer": "silu"}},
    "resnet18": {"model": "resnet18", "model_args": {"layers": [1, 1, 1, 1], "act_layer": "silu"}},
    "vit": {"model": "test_vit"},
    "dropout": {"model": "test_vit", "model_args": {"drop_rate": 0.3}},
    "convnext": {"model": "test_convnext"},
}


@pytest.fixture(autouse=True)
def _exact(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same kernels each time, as a run takes them, and convolutions in float32."""
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", True)
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)


@pytest.fixture
def on_gpu(tiny: RunConfig) -> RunConfig:
    return _but(tiny, device="cuda", engine="graph", lr=0.01)


def _but(config: RunConfig, **training) -> RunConfig:
    return config.model_copy(update={"training": config.training.model_copy(update=training)})


def _trained(config: RunConfig, method: str, epochs: int = 1) -> tuple[Loop, Tensor]:
    loop = loop_of(config.training, make_method(find_method(method), SET.get(method, {})))
    return loop, torch.stack([loop.epoch(epoch, lambda pulse: None) for epoch in range(epochs)])


def _close(ours: Loop, theirs: Loop, tolerance: float) -> None:
    """Weights, statistics and optimizer state, each relative to its own norm."""
    pairs = [
        (ours.population.weights, theirs.population.weights),
        (ours.population.buffers, theirs.population.buffers),
        *(
            (rows, theirs.population.optimizer_state[slot])
            for slot, rows in ours.population.optimizer_state.items()
        ),
    ]
    away = [((a - b).norm() / b.norm()).item() for a, b in pairs if b.numel()]
    assert max(away) <= tolerance, away
    assert torch.equal(ours.population.optimizer_steps, theirs.population.optimizer_steps)
    assert torch.equal(ours.population.counters, theirs.population.counters)


@pytest.mark.parametrize("method", DEFAULT_METHODS)
@pytest.mark.parametrize("family", ["resnet", "dropout"])
def test_graphs_train_as_eager_steps(on_gpu: RunConfig, family: str, method: str) -> None:
    config = _but(on_gpu, **FAMILIES[family])
    eager, losses = _trained(_but(config, engine="eager"), method, epochs=2)
    graph, others = _trained(_but(config, engine="graph"), method, epochs=2)
    assert isinstance(graph.engine, GraphEngine)
    assert graph.engine.side_by_side is (family == "resnet")
    # Members that a method leaves out of an epoch have no loss.
    torch.testing.assert_close(others, losses, rtol=1e-4, atol=1e-5, equal_nan=True)
    _close(graph, eager, 1e-4)


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_and_optimizer(on_gpu: RunConfig, family: str, optimizer: str) -> None:
    lr = 0.01 if optimizer == "sgd" else 1e-4
    config = _but(on_gpu, **FAMILIES[family], image_size=32, optimizer=optimizer, lr=lr)
    eager, _ = _trained(_but(config, engine="eager"), "wash-opt")
    graph, _ = _trained(_but(config, engine="graph"), "wash-opt")
    _close(graph, eager, 1e-4)


@pytest.mark.parametrize("amp", ["bf16", "fp16"])
@pytest.mark.parametrize("family", ["resnet", "vit"])
def test_mixed_precision(on_gpu: RunConfig, family: str, amp: str) -> None:
    config = _but(on_gpu, **FAMILIES[family], amp=amp)
    eager, losses = _trained(_but(config, engine="eager"), "papa", epochs=2)
    graph, others = _trained(_but(config, engine="graph"), "papa", epochs=2)
    assert graph.population.weights.dtype == torch.float32
    assert losses.isfinite().all() and (losses[1] < losses[0]).all()
    torch.testing.assert_close(others, losses, rtol=2e-2, atol=1e-2)
    _close(graph, eager, 1e-2)


@pytest.mark.parametrize("amp", ["off", "bf16", "fp16"])
@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_what_fine_tuning_asks_of_a_step(
    on_gpu: RunConfig, tmp_path: Path, optimizer: str, amp: str
) -> None:
    path = saved(tmp_path / "ten.safetensors", 10)
    options = {"freeze_bn": True, "layer_decay": 0.6, "clip_grad": 0.5, "accumulate": 4}
    lr = 0.01 if optimizer == "sgd" else 1e-4
    more = {"init": f"checkpoint:{path}", "optimizer": optimizer, "lr": lr, "drop_path": 0.2}
    config = _but(on_gpu, **FAMILIES["resnet"], amp=amp, **options, **more)
    eager, losses = _trained(_but(config, engine="eager"), "wash-opt")
    graph, others = _trained(_but(config, engine="graph"), "wash-opt")
    torch.testing.assert_close(others, losses, rtol=2e-2, atol=1e-2)
    _close(graph, eager, 1e-4 if amp == "off" else 1e-2)


@pytest.mark.parametrize("engine", ["eager", "graph"])
@pytest.mark.parametrize("family", ["resnet18", "vit", "dropout"])
def test_compiled(on_gpu: RunConfig, family: str, engine: str) -> None:
    config = _but(on_gpu, **FAMILIES[family], image_size=32, engine=engine)
    eager, losses = _trained(_but(config, engine="eager"), "wash")
    compiled, others = _trained(_but(config, compile=True), "wash")
    torch.testing.assert_close(others, losses, rtol=1e-3, atol=1e-4)
    _close(compiled, eager, 2e-2)  # momenta; weights and statistics are a thousand times closer


@pytest.mark.parametrize("network", [{}, FAMILIES["dropout"]], ids=["plain", "dropout"])
@pytest.mark.parametrize("method", ["wash-opt", "papa", "dart"])
def test_resumed_to_the_same_bits(
    on_gpu: RunConfig, tmp_path: Path, method: str, network: dict
) -> None:
    """Graphs are captured anew after a resume, after eager steps that other runs replay."""
    config = _but(on_gpu, epochs=3, **network).model_copy(update={"set": SET})
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    run_experiment(config, entries_of(method), RunContext(out=whole))
    stop_after_an_epoch(config, entries_of(method), stopped)
    run_experiment(config, entries_of(method), RunContext(out=stopped))
    assert_same_bits(whole, stopped)


class _AsksTheHost(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(12, 3)

    def forward(self, images: Tensor) -> Tensor:
        logits = self.linear(images.flatten(1))
        return logits * (2.0 if logits.sum().item() > 0 else 1.0)


def test_what_cannot_be_captured_names_the_option() -> None:
    population = Population(
        lambda _: _AsksTheHost(),
        2,
        device="cuda",
        optimizer_slots=("momentum_buffer",),
        own_gradients=True,
    )
    engine = GraphEngine(population, TrainingConfig(device="cuda"), 0)
    batch = Batch(torch.ones(4, 3, 2, 2, device="cuda"), torch.zeros(4, device="cuda").long())
    losses = torch.zeros(2, device="cuda")
    clock = Schedule("constant", 0.1, 0.0, steps=10, steps_per_epoch=10).clock(0)
    for _ in range(WARM_UP):
        engine.steps([iter([batch]), iter([batch])], clock, losses)
    with pytest.raises(UsageError, match="leave --engine graph out"):
        engine.steps([iter([batch]), iter([batch])], clock, losses)


def test_a_population_that_does_not_fit_is_told_in_a_line(
    on_gpu: RunConfig, tmp_path: Path
) -> None:
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(1e-4)
    try:
        with pytest.raises(WashBenchError, match="memory") as caught:
            run_experiment(on_gpu, entries_of("wash"), RunContext(out=tmp_path))
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.glob("cells/*"))


@pytest.mark.parametrize(
    "recipe",
    [
        Recipe(crop_padding=1, flip=True, cutout=2, random_erasing=0.5),
        Recipe(flip=True, mixup=0.5, cutmix=0.5, label_smoothing=0.1),
        Recipe(crop_padding=1, auto_augment=True),
    ],
    ids=["boxes", "mixed", "policy"],
)
def test_batches_are_those_of_a_cpu(recipe: Recipe) -> None:
    found = []
    for device in ("cuda", "cpu"):
        data = load_data(TrainingConfig(dataset="digits", train_limit=300), torch.device(device))
        batches = list(data.epoch_batches(1, 2, 3, 32, recipe))
        found.append([tensor.cpu() for batch in batches for tensor in batch])
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_no_step_waits_for_the_host(on_gpu: RunConfig) -> None:
    """Once the graphs are there, an epoch asks the device for nothing before its checks."""
    loop, _ = _trained(on_gpu, "wash")
    torch.cuda.set_sync_debug_mode("error")
    try:
        streams = [loop._batches(member, loop.schedule.clock(9)) for member in range(3)]
        losses = torch.zeros(9, 3, device="cuda")
        for step in range(9):
            clock = loop.schedule.clock(9 + step)
            loop.engine.steps(streams, clock, losses[step])
            loop.method.after_step(loop.population, loop.exchange, clock)
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_over_nccl(on_gpu: RunConfig, tmp_path: Path) -> None:
    """A rank a GPU, on as many as there are: the members of one process."""
    config = on_gpu.model_copy(update={"set": SET})
    run_experiment(config, entries_of("wash"), RunContext(out=tmp_path / "one"))
    ranks = min(torch.cuda.device_count(), config.training.population)
    settings = tmp_path / "config.json"
    settings.write_text(config.model_dump_json())
    script = tmp_path / "rank.py"
    script.write_text(
        "import sys\n"
        "from pathlib import Path\n"
        "from tests.support.runs import entries_of\n"
        "from wash_bench.config import RunConfig\n"
        "from wash_bench.distributed.process_group import process_group\n"
        "from wash_bench.runner.context import RunContext\n"
        "from wash_bench.runner.experiment import run_experiment\n"
        "import torch\n"
        "torch.backends.cudnn.allow_tf32 = False\n"  # as in this process
        "config = RunConfig.model_validate_json(Path(sys.argv[1]).read_text())\n"
        "with process_group('cuda') as world:\n"
        "    assert world.ranks == int(sys.argv[3]), world.ranks\n"
        "    context = RunContext(out=Path(sys.argv[2]), world=world)\n"
        "    outcome = run_experiment(config, entries_of('wash'), context)\n"
        "    assert outcome.finished, print(outcome)\n"
    )
    command = [sys.executable, "-m", "torch.distributed.run", f"--nproc-per-node={ranks}"]
    command += [str(script), str(settings), str(tmp_path / "nccl"), str(ranks)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parent.parent)
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]
    first, second = populations_of(tmp_path / "one"), populations_of(tmp_path / "nccl")
    assert first.keys() == second.keys()
    for training, tensors in first.items():
        for name, tensor in tensors.items():
            assert torch.equal(tensor, second[training][name]), (training, name)
