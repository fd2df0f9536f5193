"""How a run is carried out; no result depends on it. No torch until there is something to train."""

from typing import Any, Self

from pydantic import ConfigDict, Field, SkipValidation

from wash_bench.distributed.world import LocalWorld, World
from wash_bench.record import environment
from wash_bench.runner.allocator import keep_freed_memory
from wash_bench.runner.progress import Observer, unobserved
from wash_bench.study.local import LocalConfig


class RunContext(LocalConfig):
    """The local settings, and what no setting says.

    Attributes:
        jobs: 1 by default: a program of one's own is carried out in its process unless it says
            otherwise.
        debug: print tracebacks of failing cells.
        observer: is told the progress, in this process.
        world: the processes that hold each population together; this one alone by default. Every
            one of them makes the same calls; rank 0 decides what is open, and writes the records.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True)

    jobs: int | None = Field(default=1, ge=1)
    debug: bool = False
    observer: SkipValidation[Observer] = unobserved
    world: SkipValidation[World] = Field(default_factory=LocalWorld)

    @classmethod
    def of(cls, local: LocalConfig, **more: Any) -> Self:
        """The context that the local settings name; ``more`` are its other fields."""
        return cls(**{name: getattr(local, name) for name in LocalConfig.model_fields}, **more)

    def but(self, **changed: Any) -> Self:
        """The same with other values."""
        return self.model_copy(update=changed)

    def set_up_torch(self) -> None:
        """Set this process up for training."""
        import torch

        keep_freed_memory()
        environment.jobs = jobs = self.jobs or 1
        torch.set_num_threads(self.threads or max(1, torch.get_num_threads() // jobs))
