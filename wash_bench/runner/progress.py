"""What a run tells its observer (the live table, the plain lines, a test)."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

Status = Literal["waiting", "training", "evaluating", "finished", "failed", "cached"]


@dataclass(frozen=True)
class Progress:
    """The state of one training.

    Attributes:
        training: its id.
        methods: the methods that read it.
        seed: the run's seed.
        status: where it stands.
        step, steps: optimizer steps done, and in all (while evaluating: networks measured).
        epoch, epochs: epochs done (with fractions), and in all.
        loss: mean training loss of the members in nats, over the epoch so far.
        val_acc: mean validation accuracy of the members in per cent, at the last validation.
        sent_bytes: sent per member so far, the papers' convention.
        seconds_left: estimate, None while unknown.
        message: the reason of a failure.
    """

    training: str
    methods: tuple[str, ...]
    seed: int
    status: Status
    step: int = 0
    steps: int = 0
    epoch: float = 0.0
    epochs: int = 0
    loss: float | None = None
    val_acc: float | None = None
    sent_bytes: float = 0.0
    seconds_left: float | None = None
    message: str = ""


Observer = Callable[[Progress], None]


def unobserved(progress: Progress) -> None:
    """The observer of a run that nobody watches."""
