"""A Lightning callback that couples the members of a LightningModule.

The module holds its networks in ``members``, optimizes by hand, and gives one optimizer a member.
"""

from typing import Any

import lightning as L
import torch
from torch import nn

import wash_bench as wb


class CouplingCallback(L.Callback):
    """Couples ``module.members`` after each training step, and saves with the checkpoint."""

    def __init__(self, method: str, **options: Any) -> None:
        self.method, self.options = method, options
        self.coupling: wb.Coupling | None = None
        self._saved: dict[str, Any] = {}

    def on_train_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        epochs, batches = trainer.max_epochs, int(trainer.num_training_batches)
        self.coupling = wb.Coupling(
            list(module.members),
            trainer.optimizers,
            self.method,
            total_steps=epochs * batches,
            steps_per_epoch=batches,
            **self.options,
        )
        if self._saved:
            self.coupling.load_state_dict(self._saved)

    def on_train_batch_end(self, *_: Any) -> None:
        self.coupling.step()

    def state_dict(self) -> dict[str, Any]:
        return self.coupling.state_dict() if self.coupling else {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._saved = state_dict


class Members(L.LightningModule):
    """Three regression networks from a common start."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.members = nn.ModuleList(
            nn.Sequential(nn.Linear(8, 64), nn.GELU(), nn.Linear(64, 1)) for _ in range(3)
        )
        for member in self.members:
            member.load_state_dict(self.members[0].state_dict())

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        return [torch.optim.Adam(member.parameters(), lr=1e-2) for member in self.members]

    def training_step(self, batch: list[torch.Tensor], _: int) -> None:
        inputs, targets = batch
        parts = zip(self.members, self.optimizers(), inputs.chunk(3), targets.chunk(3), strict=True)
        for member, optimizer, own_inputs, own_targets in parts:  # a part of the batch each
            optimizer.zero_grad()
            self.manual_backward(nn.functional.mse_loss(member(own_inputs), own_targets))
            optimizer.step()


if __name__ == "__main__":
    L.seed_everything(0)
    inputs = torch.randn(1_920, 8)
    targets = torch.sin(inputs[:, :1]) * inputs[:, 1:2]
    data = torch.utils.data.TensorDataset(inputs, targets)
    loader = torch.utils.data.DataLoader(data, batch_size=96, shuffle=True)
    callback = CouplingCallback("wash", p=0.2)
    trainer = L.Trainer(max_epochs=5, callbacks=[callback], accelerator="cpu", logger=False)
    trainer.fit(Members(), loader)
    average = callback.coupling.predict("average")
    print(f"average {nn.functional.mse_loss(average(inputs), targets).item():.4f}")
