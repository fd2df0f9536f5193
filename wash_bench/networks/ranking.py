"""A row each for the members of a population and for what its merge rules made of them.

The best of them is chosen by validation data: a merge must beat the best member by more than one
standard error of the difference, as a lead of one or two images hardly does. Test data stand in the
rows for the reader alone.
"""

from __future__ import annotations

import contextlib
import csv
import math
from collections.abc import Callable, Sequence
from dataclasses import astuple, dataclass, fields
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from torch import Tensor

from wash_bench.core.population import ModelState, Population
from wash_bench.evaluate.barrier import pair_barriers
from wash_bench.evaluate.evaluator import Evaluator
from wash_bench.evaluate.scores import accuracy, all_scores, nll
from wash_bench.files import write_atomically
from wash_bench.merging.matched import placed_state
from wash_bench.models.checkpoint_file import read_file
from wash_bench.networks.inspect import recorded_in
from wash_bench.networks.merge import Merged
from wash_bench.networks.timm_folder import Export, write_folder
from wash_bench.record.store import Store
from wash_bench.runner.context import RunContext
from wash_bench.runner.evaluation import judged
from wash_bench.runner.trainer import Trainer
from wash_bench.train import checkpoint

AS_IS, AGAIN = "as it is", "re-estimated"


@dataclass(frozen=True)
class Row:
    """One network, measured.

    Attributes:
        network: a member's name, or the merge rule's.
        kind: ``member`` or ``merge``.
        batchnorm: whose statistics it has: its own, averaged ones of a merge (``as it is``), or
            ``re-estimated`` ones.
        val_acc, val_nll: on validation data, in per cent and in nats.
        acc, nll, ece, brier: on test data; acc and ece in per cent, nll in nats.
        source: the cell, or the training, the member's index and the evaluation.
    """

    network: str
    kind: str
    batchnorm: str
    val_acc: float
    val_nll: float
    acc: float
    nll: float
    ece: float
    brier: float
    source: str


@dataclass(frozen=True)
class _Network:
    """Something that is one network, and how its state is made."""

    name: str
    kind: str
    source: str
    state: Callable[[Population], ModelState]


class Rows:
    """The rows of a merge; what is in the file already is taken from there, not measured.

    Args:
        merged: the members and the cells.
        names: of the members.
        context: how it is carried out.
        path: the CSV file, written anew.
    """

    def __init__(
        self, merged: Merged, names: Sequence[str], context: RunContext, path: Path
    ) -> None:
        self._merged, self._context = merged, context
        self._settings = merged.task.config.evaluation
        self._networks = _networks(merged, names, Store(context.out))
        known = _read(path)
        self.rows: list[Row] = []
        for network in self._networks:
            found = [
                row for row in known if (row.network, row.source) == (network.name, network.source)
            ]
            self.rows += found or self._measured(network)
        write_atomically(path, partial(_write, [_HEADING, *(astuple(row) for row in self.rows)]))

    @property
    def best(self) -> Row:
        """The best merge if it is better than the best member by the margin, else that member."""
        member, merge = (best_of(self.rows, kind) for kind in ("member", "merge"))
        assert member is not None  # a merge has two at least
        images = len(self._merged.setting.data.split_labels["val"])
        if merge and merge.val_acc > member.val_acc + margin(member, merge, images):
            return merge
        return member

    def best_tensors(self) -> dict[str, Tensor]:
        """The tensors of the best row's network, by name."""
        best, (population, evaluator) = self.best, self._judged
        network = next(n for n in self._networks if n.source == best.source)
        state = network.state(population)
        if best.batchnorm == AGAIN:
            state = evaluator.reestimated(state, self._settings.bn_images)
        return population.named_tensors(state)

    @cached_property
    def _judged(self) -> tuple[Population, Evaluator]:
        merged = self._merged
        trainer = Trainer(merged.task, merged.setting, merged.folder, self._context)
        state = checkpoint.pointer(merged.folder.path)
        assert state is not None  # written by the merge
        trainer.load_finished(state)
        population = trainer.whole()
        assert population is not None  # this process holds it
        evaluator, _ = judged(trainer, population, self._settings)
        return population, evaluator

    def _measured(self, network: _Network) -> list[Row]:
        population, evaluator = self._judged
        state = network.state(population)
        variants = {AS_IS: state}
        if evaluator.has_batchnorm:
            variants[AGAIN] = evaluator.reestimated(state, self._settings.bn_images)
        rows = []
        for batchnorm, variant in variants.items():
            scores = _scores(evaluator, variant, self._settings.ece_bins)
            rows.append(Row(network.name, network.kind, batchnorm, **scores, source=network.source))
        return rows


def _networks(merged: Merged, names: Sequence[str], store: Store) -> list[_Network]:
    """The members, and the network of every finished cell."""
    first = merged.task.cells[0]
    found = []
    for member, name in enumerate(names):
        source = f"{first.training_id} {member} {first.evaluation_id}"
        found.append(_Network(name, "member", source, partial(Population.state, row=member)))
    for cell in merged.task.cells:
        record = store.cell(cell.cell_id)
        if record and record["summary"].get("method_networks") == 1:
            made = partial(_kept, merged, cell.cell_id)
            found.append(_Network(cell.method, "merge", cell.cell_id, made))
    return found


def _kept(merged: Merged, cell_id: str, population: Population) -> ModelState:
    """The network that a cell's rule made, as the evaluation left it."""
    path = merged.folder.network(cell_id)
    if not path.is_file():
        path = merged.folder.path / "average.safetensors"
    tensors, _ = read_file(path, str(path))
    on_device = {name: tensor.to(population.device) for name, tensor in tensors.items()}
    return placed_state(population, population.state(0), on_device)


def _scores(evaluator: Evaluator, state: ModelState, bins: int) -> dict[str, float]:
    validation, labels = evaluator.compute(state, "val"), evaluator.labels("val")
    test = all_scores(evaluator.compute(state, "test"), evaluator.labels("test"), bins)
    return {"val_acc": accuracy(validation, labels), "val_nll": nll(validation, labels)} | test


def write_barriers(merged: Merged, names: Sequence[str], path: Path) -> list[list[float]]:
    """The loss barriers between all pairs of members as a matrix: a CSV file, and its values."""
    points = merged.folder.barrier(merged.task.cells[0].evaluation_id)
    with points.open(newline="", encoding="utf-8") as file:
        found = pair_barriers(list(csv.DictReader(file)))
    n = len(names)
    matrix = [[0.0] * n for _ in range(n)]
    for (a, b), height in found.items():
        matrix[int(a)][int(b)] = matrix[int(b)][int(a)] = height
    rows = [
        (index, name, *heights)
        for index, (name, heights) in enumerate(zip(names, matrix, strict=True))
    ]
    write_atomically(path, partial(_write, [("member", "network", *range(n)), *rows]))
    return matrix


def best_of(rows: Sequence[Row], kind: str) -> Row | None:
    """Return the row of a kind of the highest validation accuracy, then of the lowest loss."""
    own = [row for row in rows if row.kind == kind]
    return max(own, key=lambda row: (row.val_acc, -row.val_nll), default=None)


def margin(one: Row, other: Row, images: int) -> float:
    """Return the standard error, in points, of the difference of two validation accuracies."""
    shares = one.val_acc / 100, other.val_acc / 100
    return 100 * math.sqrt(sum(p * (1 - p) for p in shares) / images)


_HEADING = tuple(field.name for field in fields(Row))
_NUMBERS = ("val_acc", "val_nll", "acc", "nll", "ece", "brier")


def _read(path: Path) -> list[Row]:
    """The rows of an earlier merge; none where the file is not there or not of this form."""
    rows = []
    with contextlib.suppress(OSError, ValueError, KeyError), path.open(newline="") as file:
        for line in csv.DictReader(file):
            text: dict[str, Any] = {key: line[key] for key in _HEADING}
            numbers: dict[str, Any] = {key: float(line[key]) for key in _NUMBERS}
            rows.append(Row(**text | numbers))
    return rows


def _write(lines: Sequence[Sequence[object]], path: Path) -> None:
    with path.open("w", newline="", encoding="utf-8", errors="backslashreplace") as file:
        csv.writer(file).writerows(lines)


def export_best(merged: Merged, rows: Rows, out: Path, networks: Sequence[Path]) -> None:
    """Export the network of the best row to ``out``, unless it is there already."""
    best, training = rows.best, merged.setting.config
    methods = ",".join(cell.method for cell in merged.task.cells)
    scores = {score: getattr(best, score) for score in ("acc", "nll", "ece", "brier")}
    if recorded_in(out) == scores:
        return
    write_folder(
        Export(
            setting=merged.setting,
            tensors=rows.best_tensors(),
            about=f"network {best.network} of {len(networks)}, BatchNorm statistics "
            f"{best.batchnorm}, chosen by validation accuracy ({best.val_acc:.2f} %)",
            scores=scores,
            commands=(
                (
                    *("wash-bench", "merge", *(path.name for path in networks)),
                    *("--dataset", training.dataset, "--methods", methods),
                ),
                ("wash-bench", "eval", "DIR", "--dataset", training.dataset),
            ),
        ),
        out,
    )
