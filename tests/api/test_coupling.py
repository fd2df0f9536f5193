"""A training rule in a foreign loop: the bits of the suite's own, with any optimizer of torch."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import wash_bench as wb
from tests.support.ranks import in_ranks
from wash_bench.config import TrainingConfig
from wash_bench.core.branches import recipe_of
from wash_bench.core.exchange import LocalExchange
from wash_bench.core.population import Population
from wash_bench.errors import UsageError
from wash_bench.methods.papa import Papa
from wash_bench.plugins.registry import find_method, make_method, method_names
from wash_bench.runner.training_setup import TrainingSetup
from wash_bench.train.loop import Loop
from wash_bench.train.optim import optimizer_slots

N, SEED, EPOCHS = 3, 7, 4
OPTIONS = {"wash": {"p": 0.3}, "wash-opt": {"p": 0.3}, "dart": {"every": 1}, "diloco": {"every": 4}}
WRAPPED = ("wash+overlap", "papa+ema", "wash+int8")
RULES = [name for name in method_names("training") if name != "single"]
pytestmark = pytest.mark.filterwarnings("ignore:.*also sets each member's", "ignore:.*too rarely")


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, stride=2, bias=False), nn.BatchNorm2d(8), nn.ReLU(),
        nn.Conv2d(8, 8, 3), nn.BatchNorm2d(8), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 10),
    )  # fmt: skip


def optimizer_of(model: nn.Module, config: TrainingConfig) -> torch.optim.Optimizer:
    if config.optimizer == "adamw":
        return torch.optim.AdamW(
            model.parameters(), lr=config.lr, weight_decay=config.weight_decay, fused=True
        )
    return torch.optim.SGD(
        model.parameters(), lr=config.lr, momentum=config.momentum,
        weight_decay=config.weight_decay, fused=True,
    )  # fmt: skip


def settings(optimizer: str = "sgd") -> TrainingSetup:
    lr = 0.05 if optimizer == "sgd" else 1e-3
    return TrainingSetup.of(
        TrainingConfig(
            dataset="digits", train_limit=160, image_size=16, val_share=0.1, epochs=EPOCHS,
            batch_size=32, lr=lr, device="cpu", init="shared", optimizer=optimizer, population=N,
        )
    )  # fmt: skip


class ForeignLoop:
    """A plain loop over members, with the suite's batches so that both can be compared."""

    def __init__(
        self,
        setup: TrainingSetup,
        name: str,
        members: range = range(N),
        options: dict | None = None,
        **more: bool,
    ) -> None:
        self.setup, self.members = setup, members
        config, schedule = setup.config, setup.schedule
        self.models = [network().to(memory_format=torch.channels_last) for _ in members]
        self.optimizers = [optimizer_of(model, config) for model in self.models]
        self.coupling = wb.Coupling(
            self.models, self.optimizers, name, seed=SEED, total_steps=schedule.steps,
            steps_per_epoch=schedule.steps_per_epoch, **more,
            **(OPTIONS.get(name, {}) if options is None else options),
        )  # fmt: skip

    def epoch(self, epoch: int, train_all: bool = False) -> None:
        setup, schedule, method = self.setup, self.setup.schedule, self.coupling.method
        first = schedule.clock(epoch * schedule.steps_per_epoch)
        recipes, size = setup.recipes(SEED), setup.config.batch_size
        streams = [
            setup.data.epoch_batches(
                SEED, member, epoch, size,
                recipe_of(method, member, recipes[member], setup.config.branches, first),
                order_member=method.order(member, first),
            )
            for member in self.members
        ]  # fmt: skip
        for step in range(first.step, first.step + schedule.steps_per_epoch):
            for row in range(len(self.models)) if train_all else self.coupling.active:
                batch = next(streams[row])
                self.optimizers[row].zero_grad()
                F.cross_entropy(self.models[row](batch.images), batch.targets).backward()
                self.optimizers[row].step()
            for optimizer in self.optimizers:
                optimizer.param_groups[0]["lr"] = schedule.at(step + 1)
            self.coupling.step()

    def train(self, first: int = 0, last: int = EPOCHS) -> ForeignLoop:
        for epoch in range(first, last):
            self.epoch(epoch)
        return self

    def tensors(self) -> dict[str, torch.Tensor]:
        return {
            f"{row}.{name}": tensor.clone()
            for row, model in enumerate(self.models)
            for name, tensor in model.state_dict().items()
        }


def assert_same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    assert one.keys() == other.keys()
    assert [name for name in one if not torch.equal(one[name], other[name])] == []


@pytest.mark.parametrize(
    ("name", "optimizer"),
    [(name, "sgd") for name in (*RULES, *WRAPPED)]
    + [(name, "adamw") for name in ("wash", "wash-opt", "papa", "dart", "local-sgd", "diloco")],
)
def test_a_foreign_loop_has_the_bits_of_the_suites_own(name: str, optimizer: str) -> None:
    setup = settings(optimizer)
    config = setup.config
    method = make_method(find_method(name), OPTIONS.get(name, {}))
    population = Population(lambda _: network(), N, optimizer_slots=optimizer_slots(config))
    population.remember(method.member_slots())
    exchange = LocalExchange(N, SEED)
    recipes = setup.recipes(SEED)
    loop = Loop(config, method, population, exchange, setup.data, recipes, SEED, setup.schedule)
    method.start(population, exchange)
    for epoch in range(EPOCHS):
        loop.epoch(epoch, lambda pulse: None)

    foreign = ForeignLoop(setup, name).train()
    ours = foreign.coupling.population
    assert torch.equal(ours.weights, population.weights)
    assert torch.equal(ours.buffers, population.buffers)
    assert foreign.coupling.sent.as_dict() == exchange.ledger.as_dict()
    assert torch.equal(ours.optimizer_steps, population.optimizer_steps)
    for slot, rows in population.optimizer_state.items():
        assert torch.equal(ours.optimizer_state[slot], rows), slot


def _in_rank(name: str) -> dict:
    import torch.distributed as dist

    members = range(2) if dist.get_rank() == 0 else range(2, 3)
    loop = ForeignLoop(settings(), name, members, distributed=True)
    for epoch in range(EPOCHS):
        loop.epoch(epoch, train_all=True)
    return {
        "tensors": loop.tensors(), "sent": loop.coupling.sent.as_dict(),
        "average": loop.coupling.predict("average").state_dict(),
    }  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", ["wash", "wash-opt", "dart"])
def test_members_of_two_processes_are_one_population(name: str) -> None:
    alone = ForeignLoop(settings(), name).train()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        first, second = in_ranks(2, _in_rank, name)
    moved = {f"{int(key[0]) + 2}{key[1:]}": t for key, t in second["tensors"].items()}
    assert first["sent"] == second["sent"] == alone.coupling.sent.as_dict()
    ours = alone.tensors()
    for key, tensor in {**first["tensors"], **moved}.items():
        # A mean over ranks is summed in another order than one over rows.
        torch.testing.assert_close(tensor, ours[key], rtol=1e-4, atol=1e-6)
    average = alone.coupling.predict("average").state_dict()
    for found in (first["average"], second["average"]):
        for key, tensor in found.items():
            torch.testing.assert_close(tensor, average[key], rtol=1e-4, atol=1e-6)


def _replicas() -> list[torch.Tensor]:
    import torch.distributed as dist

    models = regression()
    replicas = [nn.parallel.DistributedDataParallel(model) for model in models]
    optimizers = [torch.optim.Adam(model.parameters(), lr=1e-2) for model in models]
    coupling = wb.Coupling(replicas, optimizers, "wash-opt", p=0.5, total_steps=5)
    torch.manual_seed(dist.get_rank())  # other inputs, whose gradients are averaged
    for _ in range(5):
        train_step(replicas, optimizers)
        coupling.step()
    return [coupling.population.weights, *coupling.population.optimizer_state.values()]


@pytest.mark.slow
def test_replicas_of_all_members_stay_equal_on_all_ranks() -> None:
    first, second = in_ranks(2, _replicas)
    assert all(map(torch.equal, first, second))
    assert len({tuple(row.tolist()) for row in first[0]}) == N  # members differ


@pytest.mark.parametrize("name", ["wash-opt", "papa+ema", "diloco", "dart"])
def test_a_resumed_loop_has_the_same_bits(name: str, tmp_path: Path) -> None:
    setup = settings()
    whole = ForeignLoop(setup, name).train()
    begun = ForeignLoop(setup, name).train(last=2)
    saved = {
        "models": [model.state_dict() for model in begun.models],
        "optimizers": [optimizer.state_dict() for optimizer in begun.optimizers],
        "coupling": begun.coupling.state_dict(),
    }
    torch.save(saved, tmp_path / "state.pt")
    found = torch.load(tmp_path / "state.pt", weights_only=True)

    resumed = ForeignLoop(setup, name)
    resumed.coupling.load_state_dict(found["coupling"])
    for row in range(N):
        resumed.models[row].load_state_dict(found["models"][row])
        resumed.optimizers[row].load_state_dict(found["optimizers"][row])
    resumed.train(first=2)
    assert_same(resumed.tensors(), whole.tensors())
    assert resumed.coupling.sent.as_dict() == whole.coupling.sent.as_dict()
    batches = [torch.zeros(2, 1, 16, 16)]
    ours, theirs = (own.coupling.predict(batches=batches) for own in (resumed, whole))
    assert_same(ours.state_dict(), theirs.state_dict())


def regression(n: int = 3) -> list[nn.Module]:
    torch.manual_seed(1)
    start = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 2))
    return [copy.deepcopy(start) for _ in range(n)]


def train_step(models: list[nn.Module], optimizers: list[torch.optim.Optimizer]) -> None:
    for model, optimizer in zip(models, optimizers, strict=True):
        inputs = torch.randn(16, 4)
        optimizer.zero_grad()
        F.mse_loss(model(inputs), inputs[:, :2]).backward()
        optimizer.step()


O = torch.optim  # noqa: E741
ANY_OPTIMIZER: dict[str, Callable] = {
    "SGD": lambda p: O.SGD(p, lr=0.1),
    "SGD, momentum": lambda p: O.SGD(p, lr=0.1, momentum=0.9, dampening=0.1),
    "Adam, amsgrad": lambda p: O.Adam(p, lr=1e-2, amsgrad=True),
    "AdamW": lambda p: O.AdamW(p, lr=1e-2),
    "NAdam": lambda p: O.NAdam(p, lr=1e-2),
    "RAdam": lambda p: O.RAdam(p, lr=1e-2),
    "RMSprop": lambda p: O.RMSprop(p, lr=1e-3, momentum=0.9, centered=True),
    "Adagrad": lambda p: O.Adagrad(p, lr=1e-2),
    "Adadelta": lambda p: O.Adadelta(p),
    "Adamax": lambda p: O.Adamax(p, lr=1e-2),
    "ASGD": lambda p: O.ASGD(p, lr=1e-2),
    "Rprop": lambda p: O.Rprop(p, lr=1e-3),
}


@pytest.mark.parametrize("kind", ANY_OPTIMIZER)
def test_wash_opt_moves_the_state_of_any_optimizer_with_its_weights(kind: str) -> None:
    """After a step every value, with its state, belongs to the member that it was drawn for."""
    models = regression()
    optimizers = [ANY_OPTIMIZER[kind](model.parameters()) for model in models]
    options = {"p": 1.0, "layer_rule": "constant", "permutation": "cyclic_shift"}
    coupling = wb.Coupling(models, optimizers, "wash-opt", total_steps=20, seed=3, **options)
    for step in range(4):
        train_step(models, optimizers)
        before = [
            {
                (index, name): value.clone()
                for index, parameter in enumerate(model.parameters())
                for name, value in [("weight", parameter.data), *optimizer.state[parameter].items()]
                if isinstance(value, torch.Tensor) and value.shape == parameter.shape
            }
            for model, optimizer in zip(models, optimizers, strict=True)
        ]
        coupling.step()
        shift = int(coupling._exchange.stream("shift", step).integers(1, N))
        for member, (model, optimizer) in enumerate(zip(models, optimizers, strict=True)):
            for index, parameter in enumerate(model.parameters()):
                source = before[(member + shift) % N]
                assert torch.equal(parameter, source[index, "weight"])
                for name, value in optimizer.state[parameter].items():
                    if (index, name) in source:
                        assert torch.equal(value, source[index, name]), name
        tensors = len({name for _, name in before[0]})
        assert coupling.sent.sent_values == (step + 1) * tensors * coupling.population.layout.size


def test_state_that_cannot_move_is_refused_by_name_where_it_would_have_to() -> None:
    for name, refused in (("wash", False), ("wash-opt", True)):
        models = regression()
        optimizers = [torch.optim.Adafactor(model.parameters()) for model in models]
        coupling = wb.Coupling(models, optimizers, name, p=0.5, total_steps=10)
        train_step(models, optimizers)
        if not refused:
            coupling.step()
            continue
        with pytest.raises(UsageError, match=r"Adafactor keeps 'row_var' of shape \(8, 1\)"):
            coupling.step()


def test_gradients_and_values_stay_those_of_the_networks() -> None:
    models = regression()
    before = [copy.deepcopy(model.state_dict()) for model in models]
    optimizers = [torch.optim.Adam(model.parameters()) for model in models]
    wb.Coupling(models, optimizers, "papa", total_steps=10)
    for model, values in zip(models, before, strict=True):
        assert_same(values, model.state_dict())
        assert all(parameter.grad is None for parameter in model.parameters())


def test_the_rate_is_the_schedulers_whichever_step_comes_first() -> None:
    """PAPA's pull is (1 - alpha) lr_t / lr_0, with lr_t read after the scheduler's step."""
    models = regression()
    optimizers = [torch.optim.SGD(model.parameters(), lr=0.2) for model in models]
    schedulers = [torch.optim.lr_scheduler.LinearLR(own, 1.0, 0.0, 10) for own in optimizers]
    coupling = wb.Coupling(models, optimizers, Papa, total_steps=10, alpha=0.5, every=1)
    for step in range(10):
        train_step(models, optimizers)
        for scheduler in schedulers:
            scheduler.step()
        rows = coupling.population.weights.clone()
        coupling.step()
        pull = 0.5 * (1 - (step + 1) / 10)
        expected = rows.lerp(rows.mean(dim=0), pull)
        torch.testing.assert_close(coupling.population.weights, expected)


def test_a_rule_of_a_file_takes_wrappers(tmp_path) -> None:
    file = tmp_path / "half.py"
    file.write_text(
        "from wash_bench.core.method import Method\n\n\nclass Half(Method):\n"
        '    name, paper, rule, sends = "half", "a test", "a test", "all"\n\n'
        "    def after_step(self, population, exchange, clock):\n"
        "        population.weights.lerp_(exchange.mean(population.weights), 0.5)\n"
    )
    models = regression()
    optimizers = [torch.optim.SGD(model.parameters(), lr=0.1) for model in models]
    coupling = wb.Coupling(models, optimizers, f"{file}:Half+ema", total_steps=3)
    for _ in range(3):
        train_step(models, optimizers)
        coupling.step()
    assert coupling.method.name == "half+ema" and coupling.population.member_state


def test_what_comes_out() -> None:
    models = regression()
    optimizers = [torch.optim.Adam(model.parameters(), lr=1e-2) for model in models]
    coupling = wb.Coupling(models, optimizers, "papa", total_steps=30)
    for _ in range(5):
        train_step(models, optimizers)
        coupling.step()
    average = coupling.predict()
    for name, tensor in average.state_dict().items():
        mean = torch.stack([model.state_dict()[name] for model in models]).mean(dim=0)
        torch.testing.assert_close(tensor, mean)
    inputs = torch.randn(64, 4)

    def score(net: nn.Module) -> float:
        return -F.mse_loss(net(inputs), inputs[:, :2]).item()

    greedy = coupling.predict("greedy", score=score)
    assert score(greedy) >= max(map(score, models))
    before = models[0].state_dict()["0.weight"].clone()
    average.train()(inputs).sum().backward()  # trainable, and memory of its own
    torch.optim.SGD(average.parameters(), lr=1.0).step()
    assert torch.equal(models[0].state_dict()["0.weight"], before)
    for name, wanted in (("greedy", "needs score="), ("soup", "offers no 'soup'")):
        with pytest.raises(UsageError, match=wanted):
            coupling.predict(name)


def test_an_outer_step_re_estimates_batchnorm_on_batches() -> None:
    loop = ForeignLoop(settings(), "diloco").train(last=1)
    with pytest.raises(UsageError, match="needs batches="):
        loop.coupling.predict()
    batches = [torch.randn(32, 1, 16, 16) for _ in range(3)]
    found = loop.coupling.predict(batches=batches)
    first = next(m for m in found.modules() if isinstance(m, nn.BatchNorm2d))
    images = torch.cat(batches)
    means = torch.stack([found[0](batch).mean(dim=(0, 2, 3)) for batch in batches]).mean(dim=0)
    torch.testing.assert_close(first.running_mean, means, rtol=1e-4, atol=1e-5)
    assert len(images) == 96


def _half(models: list[nn.Module]) -> list[nn.Module]:
    return [model.half() for model in models]


def _shared(models: list[nn.Module]) -> list[nn.Module]:
    models[1][0] = models[0][0]
    return models


WRONG: dict[str, tuple[dict, Callable | None]] = {
    "unknown method 'wahs': did you mean 'wash'": ({"method": "wahs"}, None),
    "method 'wash' has no option 'q'": ({"q": 1}, None),
    "wash.p=2 ": ({"p": 2}, None),
    "total_steps=0: give a number of steps from 1": ({"total_steps": 0}, None),
    "dart counts epochs: give steps_per_epoch": ({"method": "dart"}, None),
    "counts epochs": ({"method": "wash+lawa"}, None),
    "merges trained networks": ({"method": "ties"}, None),
    "trains other networks than a population": ({"method": "single", "steps_per_epoch": 1}, None),
    "takes a name or a subclass of Method": ({"method": nn.Linear}, None),
    "init_process_group first": ({"distributed": True}, None),
    "is torch.float16 on cpu": ({}, _half),
    "networks 0 and 1 share '0.weight'": ({}, _shared),
    "one network is given twice": ({}, lambda models: [models[0]] * 3),
    "network 1 has other parameters": ({}, lambda m: [m[0], nn.Linear(4, 2), m[2]]),
    "0 networks and 0 optimizers": ({}, lambda models: []),
}


@pytest.mark.parametrize("text", WRONG)
def test_what_does_not_fit_is_refused_and_the_networks_are_as_they_were(text: str) -> None:
    given, change = WRONG[text]
    models = regression()
    models = change(models) if change else models
    before = [parameter.data_ptr() for model in models for parameter in model.parameters()]
    optimizers = [torch.optim.SGD(model.parameters(), lr=0.1) for model in models]
    arguments = {"method": "wash", "total_steps": 10} | given
    with pytest.raises(UsageError) as error:
        wb.Coupling(models, optimizers, **arguments)
    assert text in str(error.value) and "\n" not in str(error.value)
    after = [parameter.data_ptr() for model in models for parameter in model.parameters()]
    assert after == before


def test_a_loop_that_leaves_the_rules_is_told() -> None:
    models = regression()
    swapped = [torch.optim.SGD(model.parameters(), lr=0.1) for model in reversed(models)]
    with pytest.raises(UsageError, match="optimizer 0 updates parameters of another network"):
        wb.Coupling(models, swapped, "wash", total_steps=2)
    optimizers = swapped[::-1]
    coupling = wb.Coupling(models, optimizers, "wash", total_steps=2, p=0.5)
    models[1].to(torch.float64).to(torch.float32)
    with pytest.raises(UsageError, match=r"'0\.weight' of a member has other memory"):
        coupling.step()
    models = regression()
    optimizers = [torch.optim.SGD(model.parameters(), lr=0.1) for model in models]
    coupling = wb.Coupling(models, optimizers, "wash", total_steps=1, p=0.5)
    coupling.step()
    with pytest.raises(UsageError, match="step 2 of total_steps=1"):
        coupling.step()


def test_a_rule_that_does_less_here_than_in_the_suite_says_so() -> None:
    models = regression()
    optimizers = [torch.optim.SGD(model.parameters(), lr=0.1) for model in models]
    with pytest.warns(UserWarning, match="dart also sets each member's augmentation"):
        wb.Coupling(models, optimizers, "dart", total_steps=10, steps_per_epoch=5)
    with pytest.warns(UserWarning, match="too rarely"):
        fresh = regression()
        own = [torch.optim.SGD(model.parameters(), lr=0.1) for model in fresh]
        wb.Coupling(fresh, own, "wash", total_steps=1000)
