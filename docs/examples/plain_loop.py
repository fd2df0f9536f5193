"""Three regression networks in a plain PyTorch loop, coupled by WASH."""

import copy

import torch
from torch import nn

import wash_bench as wb

STEPS = 500

torch.manual_seed(0)
inputs = torch.randn(2_000, 8)
targets = torch.sin(inputs[:, :1]) * inputs[:, 1:2]

start = nn.Sequential(nn.Linear(8, 64), nn.GELU(), nn.Linear(64, 1))
models = [copy.deepcopy(start) for _ in range(3)]  # a common start
optimizers = [torch.optim.Adam(model.parameters(), lr=1e-2) for model in models]
schedulers = [torch.optim.lr_scheduler.CosineAnnealingLR(own, STEPS) for own in optimizers]
coupling = wb.Coupling(models, optimizers, "wash", p=0.05, total_steps=STEPS)

for _ in range(STEPS):
    for model, optimizer, scheduler in zip(models, optimizers, schedulers, strict=True):
        batch = torch.randint(len(inputs), (64,))
        optimizer.zero_grad()
        nn.functional.mse_loss(model(inputs[batch]), targets[batch]).backward()
        optimizer.step()
        scheduler.step()
    coupling.step()

with torch.no_grad():
    errors = [nn.functional.mse_loss(model(inputs), targets).item() for model in models]
    average = nn.functional.mse_loss(coupling.predict("average")(inputs), targets).item()
print(f"members {sum(errors) / 3:.4f}, average {average:.4f}")
print(f"sent {coupling.sent.sent_bytes / 1e3:.0f} kB a member")
